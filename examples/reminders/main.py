def handler(event, context):
    """Writes the reminder of whichever schedule has fired into the log."""
    print(f"reminder: {event['text']}")
    return {"reminded": event["text"]}

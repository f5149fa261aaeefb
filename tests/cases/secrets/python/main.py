import os


def handler(event, context):
    return os.environ["KEY"][::-1]

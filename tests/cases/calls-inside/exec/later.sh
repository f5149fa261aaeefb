curl -s -X POST "$ALULA_FUNCTIONS_URL/async-function/told"
curl -s -X POST -H 'content-type: application/json' --data-binary @- "$ALULA_FUNCTIONS_URL/topic/nobody-listens"

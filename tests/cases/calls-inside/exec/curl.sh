exec curl -s --data-binary @- -H 'content-type: text/plain' "$ALULA_FUNCTIONS_URL/function/told$PATH_INFO"

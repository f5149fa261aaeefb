exec curl -s --data-binary @- -H 'content-type: text/plain' http://gateway:8080/function/told

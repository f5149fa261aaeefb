"""The smallest handler and the echo, for functions-framework."""

import functions_framework


@functions_framework.http
def hello(request):
    if request.path == "/echo":
        return request.get_data()
    return "Hello, World!\n"

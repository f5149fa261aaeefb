"""The smallest handler, for functions-framework and for a bare Flask application."""

import functions_framework


@functions_framework.http
def hello(request):
    return "Hello, World!\n"

"""From INIT to the user's code: what was said, where modules are looked for, which object is the handler."""

import os
import sys

loaded_ahead = frozenset()  # names of modules that are loaded before there is a function and that the shim does not need


def dict_of(meta):
    fields = meta.decode("utf-8").split("\0")
    return dict(zip(fields[::2], fields[1::2]))


class Settings:
    """What INIT said."""

    def __init__(self, meta):
        values = dict_of(meta)
        self.handler, self.code = values["handler"], os.getcwd()
        self.namespace, self.function, self.version = values["namespace"], values["function"], values["version"]
        self.instance, self.memory_mb = values["instance"], int(values["memory_mb"])
        self.concurrency, self.cpus = int(values["concurrency"]), int(values["cpus"])
        self.response_bytes_max = int(values["response_bytes_max"])
        self.arena_bytes = int(values.get("arena_bytes", 0))
        self.socket_body_bytes_max = int(values.get("socket_body_bytes_max", 0))
        self.is_parent = values.get("parent") == "yes"  # whether instances are to be forked from this process


def load(settings):
    """The object that the handler's name means, and what it is: see classify."""
    own = own_folders(settings.code)
    sys.path[:] = search_path(own)
    forget_shadowed(own)
    target, name = find_handler(settings.handler)
    return target, classify(target, name)


def own_folders(code):
    """Where the function's own modules are: the code, PYTHONPATH."""
    return [code, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def search_path(own):
    """Where modules are looked for: the function's own, the standard library, the system's packages."""
    lib = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    system = [f"{sys.prefix}/local/{lib}/dist-packages", f"{sys.prefix}/lib/python3/dist-packages"]
    system += [f"{sys.prefix}/{lib}/site-packages", f"/usr/local/{lib}/dist-packages"]
    known = dict.fromkeys([*own, *sys.path, *filter(os.path.isdir, system)])
    return list(known)


def find_handler(text):
    """The object that `module.name` or `folder/module.name` names; without a name, the first usual one."""
    usual = ("handler", "app", "application", "lambda_handler", "main")
    module_name, dot, name = text.replace("/", ".").rpartition(".")
    if dot:
        try:
            __import__(module_name)
            module = sys.modules[module_name]
            if hasattr(module, name):
                return getattr(module, name), name
        except ModuleNotFoundError as error:
            # Only where the whole text may be a module itself, such as `folder.main`.
            if error.name != module_name and not module_name.startswith(f"{error.name}."):
                raise
            module = None
        if module is not None and not hasattr(module, "__path__"):
            raise AttributeError(f"{module_name} has no {name!r}; set handler to one of its functions")
    module_name = text.replace("/", ".")
    __import__(module_name)
    module = sys.modules[module_name]
    for name in usual:
        if callable(getattr(module, name, None)):
            return getattr(module, name), name
    raise AttributeError(f"{module_name} has none of {', '.join(usual)}; name the function in handler")


def classify(target, name):
    """`asgi`, `wsgi` or `event`, by what the object looks like."""
    if not callable(target):
        raise TypeError(f"the handler {name!r} is a {type(target).__name__}, which cannot be called")
    function = target
    is_function = hasattr(target, "__code__") or hasattr(target, "__func__")
    if not is_function and not isinstance(target, type):
        function = getattr(type(target).__call__, "__func__", type(target).__call__)
    code = getattr(function, "__code__", None)
    if code is None:
        return "event"
    names = list(code.co_varnames[: code.co_argcount])
    if names[:1] == ["self"]:
        del names[0]
    if names[-2:] == ["receive", "send"] or (code.co_flags & 0x80 and len(names) == 3):
        return "asgi"
    if names[-1:] == ["start_response"] or (name in ("app", "application") and not is_function):
        return "wsgi"
    return "event"


def become(environment, code):
    """Makes a process that waited for a function what it would be had it been started for this one."""
    texts = environment.split(b"\0")
    wanted, present = dict(zip(texts[::2], texts[1::2])), os.environb
    zone = present.get(b"TZ")
    for name in present.keys() - wanted.keys():
        del present[name]
    for name, value in wanted.items():
        if present.get(name) != value:
            present[name] = value
    if wanted.get(b"TZ") != zone:
        from time import tzset

        tzset()
    os.chdir(code)


def forget_shadowed(own):
    """Forgets modules that were loaded ahead and that the function has a file for, which would have come first."""
    for folder in filter(os.path.isdir, own if loaded_ahead else ()):
        for name in loaded_ahead.intersection(entry.partition(".")[0] for entry in os.listdir(folder)):
            for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
                del sys.modules[module]

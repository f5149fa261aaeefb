"""Starts the shim. Nothing else is here, because Python compiles the file it is started with each time, while what
it imports is taken from the cache that the platform had made.
"""

import sys

FOLDER = __file__.rpartition("/")[0]
sys.path.insert(0, FOLDER)
import alula_shim  # noqa: E402

sys.path.remove(FOLDER)
alula_shim.start()

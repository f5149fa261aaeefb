"""What is measured: one function for each group, in the file of its topic. Each returns the rows of its table."""

from harness.groups.bodies import large, stream
from harness.groups.broker_calls import broker
from harness.groups.cold_starts import cold, empty, frozen, imports
from harness.groups.crowd import burst, sustained
from harness.groups.footprint import memory, start
from harness.groups.deployed import many, publish
from harness.groups.later_calls import accept, backlog, run
from harness.groups.warm_calls import cores, echo, exec_, share, warm

GROUPS = {"start": start, "memory": memory, "warm": warm, "share": share, "exec": exec_, "echo": echo, "cores": cores,
          "cold": cold, "empty": empty, "imports": imports, "frozen": frozen, "burst": burst, "sustained": sustained,
          "publish": publish, "stream": stream, "large": large, "many": many,
          "accept": accept, "run": run, "backlog": backlog, "broker": broker}

"""Failure tests: real processes, real faults, and a checker that knows the truth from outside.

`python -m tests.faults --smoke` runs a cycle of each scenario, `--full` many. A scenario is a coroutine under
`@scenario(...)` in a `scenarios_*.py`; it gets a `Run` while voters are at work, injects its fault, heals it, and calls
`run.healed()`, after which every API process must serve again in time. What may go wrong is said in no scenario: after
each cycle the `checker` compares what the voters were told with what is found in both stores.

- `world.py`: the processes (`run.world.apis`, `.workers`, `.store_servers`, `.postgres`), the proxies on the links
  (`run.world.proxies["api0-store"]`, `"worker1-postgres"`, …), and a fresh campaign a cycle
- `load.py`: the voters, `journal.py`: what they were told, `checker.py`: the promises, `run.py`: one cycle
- `controls/`: services with a step taken out; a scenario with `must_fail` holds only if the checker finds it
"""

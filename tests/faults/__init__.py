"""Failure tests: real processes, real faults, and a checker that knows the truth from outside.

`python -m tests.faults --smoke` runs a cycle of each scenario, `--full` many. A scenario is a coroutine under
`@scenario(...)` in a file of `scenarios/`. It gets a `Run` while voters are at work, injects its fault, heals it, and
calls `run.healed()`, after which every API process must serve again in time. What may go wrong is said in no scenario:
after each cycle the `checker` compares what the voters were told with what is found in both stores.

    @scenario("Valkey killed -9 under load", full=20)
    async def store_killed(run: Run) -> None:
        await asyncio.to_thread(run.world.valkey.kill)
        run.healed()  # from here on the time to serve again is taken
        await asyncio.to_thread(run.world.valkey.start)

Near cousins are one coroutine with a parameter: `scenario("…")(partial(fault, link="api0-store"))`.

- `world.py`: the system (`run.world.apis`, `.workers`, `.results`, `.store_servers`, `.postgres`), operators' commands
  (`await run.world.command("seal", run.campaign)`), a fresh campaign a cycle; `scenario(…, world=…)` has another
- `processes.py`: a process starts again with other settings, `start(DIANZAN_FAULTS="flush.after_commit:kill")`, and any
  of them can be `stopped` for a while
- `proxy.py`: every link has one, `run.world.proxies["voters-api0"]`, `"api0-store"`, `"worker1-postgres"`, …; it cuts,
  stalls, slows down and swallows, at once (`set`) or when a request comes by (`set_at`)
- `load.py`: the voters, `journal.py`: what they were told, `checker.py`: the promises, `run.py`: one cycle
- `controls/`: services with a step taken out; a scenario with `must_fail` holds only if the checker finds it

A scenario must show that its fault was one (a process died at its point, a voter was told "unknown"), leave its world
healthy even where it fails, and say `run.sealed_s` or `run.nothing_durable()` where the checker cannot know. What is
too long for a run in CI has `smoke=0`. What a machine may lack (`needs=("root",)`) skips it with a reason; in CI a
skip is a failure.
"""

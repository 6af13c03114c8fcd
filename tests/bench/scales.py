"""What twice the processes bring: creates a second of four tenants with two api processes and two workers.

`scale_2x` is that over what one of each reaches, in turns, the median of the rounds. Four tenants have
sixteen clients each. PostgreSQL, Valkey and the load generators run on the same cores: `busy` says which part
of all `cores` was in use with the smaller stack. Where nobody else uses them twice the processes can't bring
more than 1 over that: on two cores, where it is near 1, they bring next to nothing.
"""

from __future__ import annotations

import statistics

import psutil
import reports
import systems

GOAL = 1.5
TENANTS, CLIENTS = 4, 16
CORES = psutil.cpu_count() or 1


def measure(rounds: int, seconds: float) -> dict[str, reports.Row]:
    rates: dict[int, list[float]] = {1: [], 2: []}
    busy: dict[int, list[float]] = {1: [], 2: []}
    with systems.serving() as (up, folder):
        for _ in range(rounds):
            for processes, found in rates.items():
                with systems.usher(up, folder, processes=processes) as stack:
                    tokens = [access.token for access in systems.make_tenants(stack, TENANTS)]
                    for length in (1.0, seconds):  # the first is to warm up
                        before = psutil.cpu_times().idle
                        running = [systems.Load(stack.port, token, CLIENTS, length) for token in tokens]
                        results = [one.result() for one in running]
                        idle = psutil.cpu_times().idle - before
                    found.append(sum(result["per_second"] for result in results))
                    busy[processes].append(1 - idle / seconds / CORES)
    ratio = statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    return {
        "scale_2x": reports.at_least(
            ratio,
            GOAL,
            one_of_each=round(statistics.median(rates[1])),
            two_of_each=round(statistics.median(rates[2])),
            tenants=TENANTS,
            cores=CORES,
            busy=round(max(0.0, statistics.median(busy[1])), 2),
        )
    }


def main() -> None:
    parser = reports.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one load (default 5)")
    args = parser.parse_args()
    found = measure(args.rounds, args.seconds)
    reports.show("Twice the processes", found)
    reports.write(found, args.out)


if __name__ == "__main__":
    main()

"""A supervisor's rendezvous member as a process of its own: `PORT RANK INCARNATION`; it obeys and prints its orders."""

import sys
import time

from imagetrain_api import schema
from imagetrain_trainer.rendezvous import member, messages, settings


def main() -> None:
    port, rank, incarnation = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    report = messages.MemberReport(rank=rank, incarnation=incarnation, host="127.0.0.1", collective_port=1)
    limits = settings.Settings(workers=2, member_timeout_seconds=20, silence_seconds=1.5)
    with_coordinator = member.Member(("localhost", port), "run", report, limits)
    told = None
    while True:
        order = with_coordinator.order()
        if (order.generation, order.action) != told:
            told = (order.generation, order.action)
            sys.stdout.write(f"{order.generation} {order.action}\n")
            sys.stdout.flush()
        if order.action == "run" and order.generation > report.generation:
            report = schema.replace(report, generation=order.generation, state="running", phase="training")
        elif order.action == "stop":
            report = schema.replace(report, state="idle")
        elif order.action == "leave":
            with_coordinator.close()
            sys.exit(order.exit_code)
        with_coordinator.report(report)
        time.sleep(0.02)


if __name__ == "__main__":
    main()

"""What is kept when programs, connections and servers fail? `python -m tests.faults`; a part is in `make test`."""

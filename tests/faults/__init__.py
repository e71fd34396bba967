"""What is kept when programs, connections and servers fail? A command: `python -m tests.faults`."""

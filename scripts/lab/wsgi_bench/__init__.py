"""The work behind scripts/wsgi-bench: a Python application on dustdevil, and on the servers it would otherwise run on.

Reading order: __main__ (what is measured on which servers), rows (the measurements), hosts (the servers), table (what is shown). The
main, processes, the machine and the load are in common.
"""

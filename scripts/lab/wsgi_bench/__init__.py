"""The work behind scripts/wsgi-bench: a Python application on dustdevil, and on what it would otherwise run on.

Reading order: __main__ (what happens when), rows (what is measured), hosts (on what), table (what is shown). Processes, the
machine and the load are the laboratory's.
"""

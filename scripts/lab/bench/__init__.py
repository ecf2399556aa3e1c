"""The work behind scripts/bench: dustdevil beside other servers, and beside the least a server can do.

Reading order: __main__ (what happens when), rows (what is measured), peers (on whom), table (what is shown). Processes,
the machine and the load are the laboratory's.
"""

"""The work behind scripts/bench: dustdevil beside other servers, and beside the least that a server can do.

Reading order: __main__ (what is measured on which servers), rows (the measurements), hostile (the row beside hostile clients), peers
(the servers), table (what is shown). The main, processes, the machine and the load are in common.
"""

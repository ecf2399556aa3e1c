"""What the benches share: processes, the machine, the load, the network, and how a command is told what to do."""

"""Code that the benches share: processes, the machine, the load, the network, and the command line."""

"""The simple models that the plots draw beside the measurements. Each is one formula.

t1   the time of a request without other requests (seconds)
cpu  the server's processor time for a request (seconds)
"""


def rate(clients, t1, cpu):
    """A closed loop: each client sends its next request when it has its answer. The full core is the limit."""
    return min(clients / t1, 1 / cpu)


def latency(clients, per_second):
    """Little's law: the clients that are being served, divided by the answers a second."""
    return clients / per_second


def queue(offered, capacity, alone, middle):
    """Mean latency if requests come at random and each takes the same time (M/D/1). Above the capacity the queue grows until
    the end of the run; `middle` is half of the run's length."""
    load = offered / capacity
    if load < 1:
        return alone + load / (2 * (1 - load)) / capacity
    return alone + (load - 1) * middle


def memory(at_rest, a_connection, connections, workers):
    """Memory at rest, and that of each connection that a worker holds."""
    kept = connections if workers is None else min(connections, workers)
    return at_rest + a_connection * (kept - 1)


def waiting_rate(clients, workers, wait, t1, capacity):
    """Throughput of a handler that waits: the requests that wait at once, divided by the time of each; at most a full core."""
    at_once = clients if workers is None else min(clients, workers)
    return min(at_once / (wait + t1), capacity)


def by_size(size, fixed, per_byte):
    """Processor time of an answer: a fixed part and a part for each byte."""
    return fixed + per_byte * size

"""The simple models that the plots draw beside the measurements. Each is one line that fits in a head.

t1   a request's time when it is alone (seconds)
cpu  the server's processor time for a request (seconds)
"""


def rate(clients, t1, cpu):
    """Clients ask as fast as they are answered, until the core is full."""
    return min(clients / t1, 1 / cpu)


def latency(clients, per_second):
    """Little's law: so many inside, so many leaving a second."""
    return clients / per_second


def queue(offered, capacity, alone, middle):
    """Mean latency of a server that takes the same time for each of its requests, which come at random (M/D/1). Beyond
    its capacity the queue grows as long as the rush lasts; `middle` is when half of the run is over."""
    load = offered / capacity
    if load < 1:
        return alone + load / (2 * (1 - load)) / capacity
    return alone + (load - 1) * middle


def memory(at_rest, a_connection, connections, workers):
    """Kept connections cost memory where somebody keeps them."""
    kept = connections if workers is None else min(connections, workers)
    return at_rest + a_connection * (kept - 1)


def waiting_rate(clients, workers, wait, t1, capacity):
    """Throughput of a handler that waits: those who wait at once, by the time that each takes; at most a full core."""
    at_once = clients if workers is None else min(clients, workers)
    return min(at_once / (wait + t1), capacity)


def by_size(size, fixed, per_byte):
    """Processor time of an answer: a fixed part, and a part for each byte."""
    return fixed + per_byte * size

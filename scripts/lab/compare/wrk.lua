-- Makes wrk print its result as one line of JSON.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"wrk":{"requests":%d,"bytes":%d,"seconds":%.4f,"cpu":%.4f,"mean_us":%.1f,"p50_us":%.1f,"p99_us":%.1f,' ..
    '"connect_errors":%d,"read_errors":%d,"write_errors":%d,"status_errors":%d,"timeouts":%d}}\n',
    summary.requests, summary.bytes, summary.duration / 1e6, os.clock(), latency.mean, latency:percentile(50),
    latency:percentile(99), e.connect, e.read, e.write, e.status, e.timeout))
end

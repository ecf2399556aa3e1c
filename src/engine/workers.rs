//! What engines do for the supervisor of the Python workers, besides leasing: in the threaded engines a thread of its
//! own waits for its descriptors; at the end every engine ends the workers.

use crate::app::App;
use crate::engine::Ending;
use crate::wsgi::watch;
use signal_hook::consts::SIGHUP;
use signal_hook::low_level::pipe;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long workers may take to end when the server ends.
const LEAVE: Duration = Duration::from_secs(2);
/// The same if requests have been cut off: time for the applications to clean up.
const LEAVE_CUT: Duration = Duration::from_millis(500);
/// How soon the supervisor's thread notices a signal, or a deadline that another thread has moved to an earlier time.
const SLICE: Duration = Duration::from_millis(100);

/// Starts the thread that supervises the workers, if there are any.
pub fn supervise(app: &Arc<App>) -> io::Result<()> {
    let Some(wsgi) = &app.wsgi else { return Ok(()) };
    let descriptor = wsgi.supervisor.lock().as_fd().try_clone_to_owned()?;
    let (mut signals, end) = UnixStream::pair()?;
    signals.set_nonblocking(true)?;
    pipe::register(SIGHUP, end)?;
    let app = app.clone();
    thread::Builder::new().spawn(move || {
        let Some(wsgi) = &app.wsgi else { return };
        loop {
            let due = wsgi.supervisor.lock().next_turn(Instant::now());
            let left = due.map_or(SLICE, |due| due.saturating_duration_since(Instant::now()));
            if watch::wait(descriptor.as_fd(), Some(left.min(SLICE))).is_err() {
                thread::sleep(SLICE);
            }
            if matches!(signals.read(&mut [0; 64]), Ok(1..)) {
                wsgi.supervisor.lock().reload(Instant::now());
            }
            wsgi.supervisor.turn(Instant::now());
        }
    })?;
    Ok(())
}

/// Tells the workers to end, and kills those that do not.
pub fn end(app: &App, ending: Ending) {
    let Some(wsgi) = &app.wsgi else { return };
    let leave = match ending {
        Ending::Drained => LEAVE,
        Ending::Cut => LEAVE_CUT,
    };
    let until = Instant::now() + leave;
    let mut supervisor = wsgi.supervisor.lock();
    supervisor.stop(Instant::now());
    while !supervisor.has_ended() {
        let now = Instant::now();
        if until <= now {
            return supervisor.kill_all();
        }
        // An error here passes: the next turn looks again.
        let _ = supervisor.wait(Some((until - now).min(SLICE)));
        supervisor.turn(Instant::now());
    }
}

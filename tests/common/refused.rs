//! Checks that an invalid message is refused.

use super::{Client, SECOND, Server, shown};

/// Sends an invalid message with a valid request behind it, whole and byte by byte. Expects one error response, and
/// then the end of the connection.
#[track_caller]
pub fn expect_refused(server: &Server, message: &[u8], statuses: &[u16]) {
    for cut in [usize::MAX, 1] {
        let bytes = [message, SECOND.as_bytes()].concat();
        let mut client = Client::connect(server);
        for part in bytes.chunks(cut.min(bytes.len())) {
            if client.try_send(part).is_err() {
                break; // answered and closed before the last byte
            }
        }
        let answer = client.next_response().unwrap_or_else(|| panic!("no answer to {}", shown(message)));
        let told = answer.status;
        assert!(statuses.contains(&told), "{told}, not one of {statuses:?}, for {}", shown(message));
        assert!(answer.says_close(), "Connection: close in the answer to {}", shown(message));
        let rest = client.read_to_end();
        assert!(rest.is_empty(), "{} was answered twice: {}", shown(message), shown(&rest));
    }
}

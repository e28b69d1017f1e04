//! One connection after the other is served here, each in a thread of its own.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use socket2::SockRef;

use super::super::http::{self, Head, Headers, Response};
use super::fault::{Fault, Lot, Plan};
use super::rules::{Refusal, Rules};

/// A request as it came in, and what became of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// As in [`Head::path`].
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: Headers,
    /// How much of the body was read.
    pub body_length: usize,
    /// In hexadecimal, of what was read.
    pub body_sha256: String,
    /// What the client was answered; `None` while it is served, and when it got no answer.
    pub status: Option<u16>,
    /// What the store answered; `None` when it was not asked.
    pub stored: Option<u16>,
    /// The fault that it met.
    pub fault: Option<Fault>,
    pub at: Instant,
}

/// What all connections have in common.
pub(super) struct Shared {
    pub(super) rules: Mutex<Rules>,
    pub(super) plan: Mutex<Plan>,
    pub(super) log: Mutex<Vec<Seen>>,
    upstream: SocketAddr,
    /// Held over requests that depend on what is stored: the emulator looks and writes in two steps.
    conditional: Mutex<()>,
    open: Mutex<HashMap<usize, TcpStream>>,
    stopping: Mutex<bool>,
    stop_signal: Condvar,
}

/// Plain or TLS.
pub(super) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub(super) struct Connection {
    socket: TcpStream,
    stream: BufReader<Box<dyn Stream>>,
}

/// How a request ends.
enum Ending {
    Answer(Response),
    Close,
    Reset,
}

/// A body while it arrives.
struct Body<'a> {
    head: &'a Head,
    bytes: Vec<u8>,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, stream: Box<dyn Stream>) -> Self {
        Self {
            socket,
            stream: BufReader::new(stream),
        }
    }
}

impl Shared {
    pub(super) fn new(upstream: SocketAddr) -> Self {
        Self {
            rules: Mutex::default(),
            plan: Mutex::default(),
            log: Mutex::default(),
            upstream,
            conditional: Mutex::default(),
            open: Mutex::default(),
            stopping: Mutex::default(),
            stop_signal: Condvar::new(),
        }
    }

    /// Ends stalls and connections.
    pub(super) fn stop(&self) {
        *self.stopping.lock().unwrap() = true;
        self.stop_signal.notify_all();
        for socket in self.open.lock().unwrap().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn stopped(&self) -> bool {
        *self.stopping.lock().unwrap()
    }

    /// Serves a connection until either side ends it.
    pub(super) fn serve(&self, id: usize, mut connection: Connection) {
        if let Ok(socket) = connection.socket.try_clone() {
            self.open.lock().unwrap().insert(id, socket);
        }
        while !self.stopped() && self.serve_one(&mut connection).unwrap_or(false) {}
        // The reset, if there is one, happens when the last handle of the socket goes.
        self.open.lock().unwrap().remove(&id);
    }

    /// Serves one request; whether the connection stays open.
    fn serve_one(&self, connection: &mut Connection) -> io::Result<bool> {
        let Some(head) = Head::read(&mut connection.stream)? else {
            return Ok(false);
        };
        let lot = self.plan.lock().unwrap().draw(&head);
        let seen = self.arrived(&head, &lot);
        let mut body = Body {
            head: &head,
            bytes: Vec::new(),
        };
        let ending = self.handle(&mut body, &lot, seen, &mut connection.stream);

        let stored = self.note(seen, |seen| {
            seen.body_length = body.bytes.len();
            seen.body_sha256 = hex::encode(Sha256::digest(&body.bytes));
            seen.stored
        });
        if !stored.is_some_and(|status| (200..300).contains(&status)) {
            self.plan.lock().unwrap().give_back(&lot);
        }
        match ending? {
            Ending::Answer(response) => {
                self.note(seen, |seen| seen.status = Some(response.status));
                response.write(connection.stream.get_mut(), &head.method)?;
                Ok(head.header("connection") != Some("close")
                    && head.header("transfer-encoding").is_none())
            }
            Ending::Close => Ok(false),
            Ending::Reset => {
                SockRef::from(&connection.socket).set_linger(Some(Duration::ZERO))?;
                Ok(false)
            }
        }
    }

    fn handle(
        &self,
        body: &mut Body<'_>,
        lot: &Lot,
        seen: usize,
        stream: &mut BufReader<Box<dyn Stream>>,
    ) -> io::Result<Ending> {
        match lot.fault {
            Some(Fault::Reset { after }) => {
                body.read_to(after, stream)?;
                return Ok(Ending::Reset);
            }
            Some(Fault::Stall { after, pause }) => {
                body.read_to(after, stream)?;
                self.wait(pause);
            }
            _ => {}
        }
        body.read_to(usize::MAX, stream)?;
        match lot.fault {
            Some(Fault::Answer(status, code)) => {
                let refusal = Refusal::new(status, code, "A fault of the test rig.");
                return Ok(Ending::Answer(refusal.response(&body.head.method)));
            }
            Some(Fault::Silence) => return Ok(Ending::Close),
            _ => {}
        }
        let refusal = self.rules.lock().unwrap().refusal(body.head, &body.bytes);
        if let Some(refusal) = refusal {
            return Ok(Ending::Answer(refusal.response(&body.head.method)));
        }
        let response = self.forward(body)?;
        self.note(seen, |seen| seen.stored = Some(response.status));
        Ok(if lot.fault == Some(Fault::LoseAnswer) {
            Ending::Reset
        } else {
            Ending::Answer(response)
        })
    }

    fn forward(&self, body: &Body<'_>) -> io::Result<Response> {
        let conditional = body.head.headers.contains_key("if-none-match")
            || body.head.headers.contains_key("if-match");
        let guard = conditional.then(|| self.conditional.lock().unwrap());
        let mut response = http::send(self.upstream, body.head, &body.bytes)?;
        drop(guard);
        response.headers.remove("connection");
        Ok(response)
    }

    /// A pause that ends early when the proxy does.
    fn wait(&self, pause: Duration) {
        let stopping = self.stopping.lock().unwrap();
        drop(
            self.stop_signal
                .wait_timeout_while(stopping, pause, |stopping| !*stopping),
        );
    }

    fn arrived(&self, head: &Head, lot: &Lot) -> usize {
        let mut log = self.log.lock().unwrap();
        log.push(Seen {
            method: head.method.clone(),
            path: head.path.clone(),
            query: head.query.clone(),
            headers: head.headers.clone(),
            body_length: 0,
            body_sha256: String::new(),
            status: None,
            stored: None,
            fault: lot.fault.clone(),
            at: Instant::now(),
        });
        log.len() - 1
    }

    fn note<T>(&self, seen: usize, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.log.lock().unwrap()[seen])
    }
}

impl Body<'_> {
    /// Reads until so much is there, or all of it. The client's `Expect` is answered with the first byte wanted.
    fn read_to(
        &mut self,
        length: usize,
        stream: &mut BufReader<Box<dyn Stream>>,
    ) -> io::Result<()> {
        let length = length.min(self.head.body_length());
        let expects = self
            .head
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects && self.bytes.is_empty() && length > 0 {
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            stream.get_mut().flush()?;
        }
        while self.bytes.len() < length {
            let available = stream.fill_buf()?;
            if available.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let taken = available.len().min(length - self.bytes.len());
            self.bytes.extend_from_slice(&available[..taken]);
            stream.consume(taken);
        }
        Ok(())
    }
}

//! A small HTTP server: a thread for each connection, kept alive, and one handler for every request.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::http::{Head, Response};

/// How a request ends.
pub(crate) enum Ending {
    Answer(Response),
    /// The connection is closed in good order, without an answer.
    Close,
}

/// What answers the requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request; called from many threads at once.
    fn handle(&self, head: &Head, body: &[u8]) -> Ending;
}

/// A running server on a free port of 127.0.0.1; it ends with the value, open connections included.
pub(crate) struct Server {
    address: SocketAddr,
    open: Arc<Open>,
    accepting: Option<JoinHandle<()>>,
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    stopping: AtomicBool,
    sockets: Mutex<HashMap<usize, TcpStream>>,
}

impl Server {
    pub(crate) fn start(handler: Arc<impl Handler>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let open = Arc::new(Open::default());
        let accepting = thread::spawn({
            let open = Arc::clone(&open);
            move || accept(&listener, &open, &handler)
        });
        Ok(Self {
            address,
            open,
            accepting: Some(accepting),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.open.stopping.store(true, Ordering::SeqCst);
        for socket in self.open.sockets.lock().unwrap().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.accepting.take()) {
            let _ = thread.join();
        }
    }
}

fn accept<H: Handler>(listener: &TcpListener, open: &Arc<Open>, handler: &Arc<H>) {
    for (id, socket) in listener.incoming().enumerate() {
        if open.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(socket) = socket else { continue };
        let (open, handler) = (Arc::clone(open), Arc::clone(handler));
        thread::spawn(move || {
            let _ = serve(id, &socket, &open, &*handler);
            open.sockets.lock().unwrap().remove(&id);
        });
    }
}

/// Serves a connection until either side ends it.
fn serve(id: usize, socket: &TcpStream, open: &Open, handler: &impl Handler) -> io::Result<()> {
    socket.set_nodelay(true)?;
    open.sockets.lock().unwrap().insert(id, socket.try_clone()?);
    let mut writer = socket.try_clone()?;
    let mut reader = BufReader::new(socket.try_clone()?);
    while !open.stopping.load(Ordering::SeqCst) {
        let Some(head) = Head::read(&mut reader)? else {
            break;
        };
        let expects = head
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; head.body_length()];
        reader.read_exact(&mut body)?;
        let Ending::Answer(response) = handler.handle(&head, &body) else {
            break;
        };
        response.write(&mut writer, &head.method)?;
        if head.header("connection") == Some("close")
            || head.headers.contains_key("transfer-encoding")
        {
            break;
        }
    }
    socket.shutdown(Shutdown::Both)
}

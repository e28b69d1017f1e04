//! A proxy in front of the emulator: it refuses what AWS refuses and the emulator takes, fails on demand, and
//! writes down every request.
//!
//! It never checks signatures, only who signed and for which region. Bodies are held in memory.

mod fault;
mod rules;
mod serve;
mod tls;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

pub use fault::Fault;
pub use rules::WrongRegion;
pub use serve::Seen;

use super::http::Head;
use fault::Plan;
use rules::Rules;
use serve::Shared;
use tls::Tls;

/// The access key id that every proxy knows from the start.
pub const ACCESS_KEY: &str = "AKIAEXHIBITEXAMPLE00";

/// A running proxy; it ends with the value, open connections included.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<Tls>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts on a free port of 127.0.0.1, region `us-east-1`, with all rights for [`ACCESS_KEY`].
    pub fn start(upstream: SocketAddr) -> Self {
        Self::listen(upstream, None)
    }

    /// As [`Proxy::start`] behind TLS, with a certificate for `localhost`, 127.0.0.1 and these names.
    pub fn start_tls(upstream: SocketAddr, names: &[&str]) -> Self {
        Self::listen(upstream, Some(Tls::new(names)))
    }

    fn listen(upstream: SocketAddr, tls: Option<Tls>) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port of 127.0.0.1");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared::new(upstream));
        let accepting = thread::spawn({
            let (shared, tls) = (Arc::clone(&shared), tls.clone());
            move || accept(&listener, &shared, tls.as_ref())
        });
        Self {
            address,
            shared,
            tls,
            accepting: Some(accepting),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as `AWS_ENDPOINT_URL_S3` takes it.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate of the authority that vouches for it.
    ///
    /// # Panics
    /// When it was started without TLS.
    pub fn ca_pem(&self) -> &str {
        &self.tls.as_ref().expect("started with start_tls").ca_pem
    }

    /// Takes requests signed with this access key id.
    pub fn allow_key(&self, id: &str) {
        self.rules(|rules| rules.keys.insert(id.into()));
    }

    /// Takes requests signed with this access key id no longer, as when it is deleted during a run.
    pub fn forbid_key(&self, id: &str) {
        self.rules(|rules| rules.keys.remove(id));
    }

    /// Takes only requests signed for this region.
    pub fn region(&self, region: &str) {
        self.rules(|rules| rules.region = region.into());
    }

    /// Chooses how a request signed for another region is answered.
    pub fn wrong_region(&self, answer: WrongRegion) {
        self.rules(|rules| rules.wrong_region = answer);
    }

    /// Whether the caller may only put: then it can neither read, list nor delete.
    pub fn put_only(&self, on: bool) {
        self.rules(|rules| rules.put_only = on);
    }

    /// The next so many requests that match meet this fault. Rules wait in the order in which they were given; a
    /// request meets the first that matches and is not used up.
    pub fn fault(
        &self,
        times: usize,
        matches: impl Fn(&Head) -> bool + Send + 'static,
        fault: Fault,
    ) {
        self.plan(|plan| plan.add(times, Box::new(matches), fault));
    }

    /// The next so many PUTs of objects with `part` in their path (`/bucket/key`) meet this fault.
    pub fn fault_puts(&self, times: usize, part: &str, fault: Fault) {
        let part = part.to_string();
        self.fault(
            times,
            move |head| rules::puts_object(head) && head.path.contains(&part),
            fault,
        );
    }

    /// The store takes at most so many more objects; from then on every request meets this fault.
    pub fn die_after(&self, puts: usize, fault: Fault) {
        self.plan(|plan| plan.end_after(puts, fault));
    }

    /// Forgets every fault that is still to come.
    pub fn heal(&self) {
        self.plan(|plan| *plan = Plan::default());
    }

    /// Every request so far, by arrival; one that is still being served has no status yet.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }

    fn rules<T>(&self, change: impl FnOnce(&mut Rules) -> T) {
        change(&mut self.shared.rules.lock().unwrap());
    }

    fn plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.shared.plan.lock().unwrap());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop();
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.accepting.take()) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, tls: Option<&Tls>) {
    for (id, socket) in listener.incoming().enumerate() {
        if shared.stopped() {
            return;
        }
        if let Ok(connection) = socket.and_then(|socket| open(socket, tls)) {
            let shared = Arc::clone(shared);
            thread::spawn(move || shared.serve(id, connection));
        }
    }
}

fn open(socket: TcpStream, tls: Option<&Tls>) -> io::Result<serve::Connection> {
    socket.set_nodelay(true)?;
    let stream: Box<dyn serve::Stream> = match tls {
        Some(tls) => Box::new(tls.wrap(socket.try_clone()?)),
        None => Box::new(socket.try_clone()?),
    };
    Ok(serve::Connection::new(socket, stream))
}

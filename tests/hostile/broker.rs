//! A broker gone bad: it passes requests on to a good one, and does to the answers whatever it is told.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use ottla_mock::{Api, MockCluster};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What is done to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// It is another request's.
    WrongCorrelation,
    /// Half of it comes, in a frame of that length.
    Truncated,
    /// A byte more comes, in a frame of that length.
    OneByteMore,
    /// Half of it comes, and the connection ends.
    CutOff,
    /// Two bytes of its length come, and the connection ends.
    CutOffInItsLength,
    /// The connection ends before it.
    Closed,
    /// It claims two gigabytes, and goes on sending.
    Enormous,
    /// It claims as much as is still read, and sends nothing of it.
    Promised,
    /// Its length is below nothing.
    Negative,
    /// It is a good one, to another question.
    OfAnotherApi,
    /// It is bytes at random.
    Noise,
    /// Every number in it is as large as can be.
    AllOnes,
    /// It does not come.
    Never,
    /// It comes a byte at a time, and takes for ever.
    Trickle,
    /// It comes a thousand times.
    Flood,
    /// It is nothing but an error that no broker ever had.
    Empty,
}

impl Attack {
    pub(crate) const ALL: [Self; 16] = [
        Self::WrongCorrelation,
        Self::Truncated,
        Self::OneByteMore,
        Self::CutOff,
        Self::CutOffInItsLength,
        Self::Closed,
        Self::Enormous,
        Self::Promised,
        Self::Negative,
        Self::OfAnotherApi,
        Self::Noise,
        Self::AllOnes,
        Self::Never,
        Self::Trickle,
        Self::Flood,
        Self::Empty,
    ];

    /// Waits as long as the client does.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::Never | Self::Trickle | Self::Promised)
    }
}

/// Between bytes that trickle.
const DROP: Duration = Duration::from_millis(100);
const FLOOD: usize = 1000;

/// A cluster behind brokers gone bad.
pub(crate) struct Hostile {
    pub(crate) mock: MockCluster,
    pub(crate) bootstrap: String,
    plan: Arc<Plan>,
    _brokers: JoinSet<()>,
}

struct Plan {
    api: Api,
    attack: Attack,
    left: AtomicUsize,
    attacks: AtomicUsize,
    requests: AtomicUsize,
    /// Where the good brokers are, and their bad ones.
    ports: Mutex<BTreeMap<u16, u16>>,
}

impl Hostile {
    /// A cluster that treats the next `times` answers of one API like this.
    pub(crate) async fn start(mock: MockCluster, api: Api, attack: Attack, times: usize) -> Self {
        let plan = Plan {
            api,
            attack,
            left: AtomicUsize::new(times),
            attacks: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            ports: Mutex::default(),
        };
        let (plan, mut brokers, mut bootstrap) = (Arc::new(plan), JoinSet::new(), Vec::new());
        let mut listeners = Vec::new();
        for good in mock.bootstrap_servers().split(',') {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let bad = listener.local_addr().expect("it is bound").port();
            let good: u16 = good.rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port");
            plan.ports.lock().unwrap().insert(good, bad);
            bootstrap.push(format!("127.0.0.1:{bad}"));
            listeners.push((listener, good));
        }
        for (listener, good) in listeners {
            brokers.spawn(listen(listener, good, Arc::clone(&plan)));
        }
        Self { mock, bootstrap: bootstrap.join(","), plan, _brokers: brokers }
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> usize {
        self.plan.requests.load(Relaxed)
    }

    /// How many answers were treated like that.
    pub(crate) fn attacks(&self) -> usize {
        self.plan.attacks.load(Relaxed)
    }
}

async fn listen(listener: TcpListener, good: u16, plan: Arc<Plan>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let plan = Arc::clone(&plan);
        connections.spawn(async move {
            // However it ends, it ends.
            let _ = serve(client, good, &plan).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Serves a connection, one request at a time, as brokers do.
async fn serve(mut client: TcpStream, good: u16, plan: &Plan) -> io::Result<()> {
    let mut broker = TcpStream::connect(("127.0.0.1", good)).await?;
    loop {
        let request = read_frame(&mut client).await?;
        plan.requests.fetch_add(1, Relaxed);
        let api = i16::from_be_bytes([request[0], request[1]]);
        write_frame(&mut broker, &request).await?;
        let mut answer = read_frame(&mut broker).await?;
        if [Api::Metadata as i16, Api::FindCoordinator as i16].contains(&api) {
            plan.lead_astray(&mut answer);
        }
        let one_less = |left: usize| left.checked_sub(1);
        if api == plan.api as i16 && plan.left.fetch_update(Relaxed, Relaxed, one_less).is_ok() {
            plan.attacks.fetch_add(1, Relaxed);
            send(plan.attack, &mut client, answer).await?;
        } else {
            write_frame(&mut client, &answer).await?;
        }
    }
}

impl Plan {
    /// Names the bad brokers in place of the good ones.
    fn lead_astray(&self, answer: &mut [u8]) {
        for (good, bad) in &*self.ports.lock().unwrap() {
            let (good, bad) = (i32::from(*good).to_be_bytes(), i32::from(*bad).to_be_bytes());
            for at in 0..answer.len().saturating_sub(3) {
                if answer[at..at + 4] == good {
                    answer[at..at + 4].copy_from_slice(&bad);
                }
            }
        }
    }
}

/// Sends an answer as an attack would have it.
async fn send(attack: Attack, client: &mut TcpStream, mut answer: Vec<u8>) -> io::Result<()> {
    let half = answer.len() / 2;
    let whole_length = (answer.len() as i32).to_be_bytes();
    match attack {
        Attack::WrongCorrelation => {
            answer[3] ^= 1;
            write_frame(client, &answer).await
        }
        Attack::Truncated => write_frame(client, &answer[..half.max(4)]).await,
        Attack::OneByteMore => {
            answer.push(0);
            write_frame(client, &answer).await
        }
        Attack::CutOff => {
            client.write_all(&whole_length).await?;
            client.write_all(&answer[..half]).await?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Attack::CutOffInItsLength => {
            client.write_all(&whole_length[..2]).await?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Attack::Closed => Err(io::ErrorKind::ConnectionAborted.into()),
        Attack::Enormous => {
            client.write_all(&i32::MAX.to_be_bytes()).await?;
            loop {
                client.write_all(&[0; 64 << 10]).await?;
            }
        }
        Attack::Promised => {
            client.write_all(&(256_i32 << 20).to_be_bytes()).await?;
            until_it_hangs_up(client).await
        }
        Attack::Negative => {
            client.write_all(&(-1_i32).to_be_bytes()).await?;
            write_frame(client, &answer).await
        }
        Attack::OfAnotherApi => {
            // That of Heartbeat or, to itself, of ListOffsets: an error code, a count, a topic.
            answer.truncate(4);
            answer.extend([0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 7, 0, 0]);
            write_frame(client, &answer).await
        }
        Attack::Noise => {
            let mut state = 1_u32;
            for byte in &mut answer[4..] {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            write_frame(client, &answer).await
        }
        Attack::AllOnes => {
            answer[4..].fill(0xff);
            write_frame(client, &answer).await
        }
        Attack::Never => until_it_hangs_up(client).await,
        Attack::Trickle => {
            for byte in [&whole_length[..], &answer].concat() {
                client.write_all(&[byte]).await?;
                tokio::time::sleep(DROP).await;
            }
            Ok(())
        }
        Attack::Flood => {
            for _ in 0..FLOOD {
                write_frame(client, &answer).await?;
            }
            Ok(())
        }
        Attack::Empty => write_frame(client, &answer[..4]).await,
    }
}

async fn until_it_hangs_up(client: &mut TcpStream) -> io::Result<()> {
    while client.read(&mut [0; 1024]).await? > 0 {}
    Err(io::ErrorKind::ConnectionAborted.into())
}

async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat()).await
}

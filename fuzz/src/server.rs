//! An HTTP server of this process that answers with what an input says, whatever it is asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

/// What a client asked for.
pub(crate) struct Asked {
    /// As `POST /x`.
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

/// The head without its status line's version, as `200 OK\r\ncontent-type: text/xml\r\n`, and the body.
pub(crate) type Answer = (String, Vec<u8>);

type Answers = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

static SERVER: OnceLock<(SocketAddr, Mutex<Option<Answers>>)> = OnceLock::new();

/// Sets how requests are answered from now on; the address that takes them.
pub(crate) fn answer(with: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let (address, answers) = SERVER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                thread::spawn(move || {
                    // Whoever hangs up hears no more.
                    let _ = serve(connection);
                });
            }
        });
        (address, Mutex::default())
    });
    *answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(with));
    *address
}

fn serve(connection: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut writer = connection;
    while let Some(asked) = read(&mut reader)? {
        let Some((_, answers)) = SERVER.get() else { return Ok(()) };
        let Some(answers) = answers.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(());
        };
        let (head, body) = answers(&asked);
        let is_head = asked.line.starts_with("HEAD ");
        write!(writer, "HTTP/1.1 {head}content-length: {}\r\n\r\n", body.len())?;
        if !is_head {
            writer.write_all(&body)?;
        }
        writer.flush()?;
    }
    Ok(())
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim_end().to_ascii_lowercase();
        match header.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some(("transfer-encoding", "chunked")) => chunked = true,
            None if header.is_empty() => break,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).unwrap_or(0);
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else {
        reader.by_ref().take(length).read_to_end(&mut body)?;
    }
    let line = line.rsplit_once(' ').map_or(line.as_str(), |(line, _)| line).to_owned();
    Ok(Some(Asked { line, body }))
}

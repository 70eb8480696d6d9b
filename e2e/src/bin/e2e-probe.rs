//! What the cluster tests run inside a pod: one small act a call, told on standard output.
//!
//! Uses the standard library alone, since it is linked by itself into an image from scratch.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _},
    process::ExitCode,
    thread,
    time::Duration,
};

const USAGE: &str = "usage: probe sleep
       probe serve PORT TEXT      answer each connection with TEXT
       probe fetch HOST:PORT      connect and print what is answered
       probe reach IP:PORT        try that once and print how it went
       probe resolve NAME         print the addresses of NAME
       probe print FILE           print FILE
       probe fill FILE            write to FILE until it takes no more, print why
       probe append FILE TEXT     append a line to FILE, synced, and print the whole
Acts joined by a lone comma are done one after the other.";

/// For how long a refused connection or an unknown name is tried again, in tenths of a second:
/// routes and endpoints of a new Service take a moment to arrive.
const TRIES: u32 = 300;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    for act in args.split(|arg| arg == ",") {
        if let Err(error) = run(act) {
            eprintln!("probe: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(act: &[String]) -> io::Result<()> {
    let words: Vec<&str> = act.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["sleep"] => loop {
            thread::park();
        },
        ["serve", port, text] => serve(port, text),
        ["fetch", address] => again(|| fetch(address)),
        ["reach", address] => {
            match fetch(address) {
                Ok(()) => println!("reached"),
                Err(error) => println!("{:?}", error.kind()),
            }
            Ok(())
        }
        ["resolve", name] => again(|| resolve(name)),
        ["print", file] => fs::read_to_string(file).map(|text| print!("{text}")),
        ["fill", file] => fill(file),
        ["append", file, text] => append(file, text),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn again(mut act: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..TRIES {
        if act().is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    act()
}

fn serve(port: &str, text: &str) -> io::Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("serving");
    loop {
        let (mut stream, _) = listener.accept()?;
        // A client that has gone does not end the server.
        let _ = stream.write_all(text.as_bytes());
    }
}

fn fetch(address: &str) -> io::Result<()> {
    let mut text = String::new();
    let limit = Duration::from_secs(2);
    let addresses: Vec<_> = address.to_socket_addrs()?.collect();
    let first = addresses
        .first()
        .ok_or_else(|| io::Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(first, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.read_to_string(&mut text)?;
    println!("{text}");
    Ok(())
}

fn resolve(name: &str) -> io::Result<()> {
    for address in (name, 0).to_socket_addrs()? {
        println!("{}", address.ip());
    }
    Ok(())
}

fn fill(file: &str) -> io::Result<()> {
    let mut opened = fs::File::create(file)?;
    // A bound far above what the small volumes hold, so that a large one ends it too.
    for _ in 0..1024 {
        if let Err(error) = opened.write_all(&[7; 1 << 16]) {
            println!("{:?}", error.kind());
            return Ok(());
        }
    }
    Err(io::Error::other("it took 64 MiB"))
}

fn append(file: &str, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut opened = options.append(true).create(true).open(file)?;
    writeln!(opened, "{text}")?;
    opened.sync_all()?;
    print!("{}", fs::read_to_string(file)?);
    Ok(())
}

//! A name server: every domain has an MX `mx.<domain>` at the test's address, except those below
//! `nowhere.example`, which do not exist.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// Port of the name server.
const PORT: u16 = 5353;

/// A name server, answering or not.
pub(crate) struct NameServer {
    address: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl NameServer {
    /// One that answers at `address`.
    pub(crate) async fn start(address: IpAddr) -> Self {
        let mut server = Self {
            address: (address, PORT).into(),
            serving: None,
        };
        server.resume().await;
        server
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: nobody listens at its address any more.
    pub(crate) async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Its end is a cancellation.
            serving.await.unwrap_err();
        }
    }

    /// Starts it again at the same address.
    pub(crate) async fn resume(&mut self) {
        let socket = UdpSocket::bind(self.address).await.unwrap();
        let address = self.address.ip();
        self.serving = Some(tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let response = respond(&buffer[..length], address);
                socket.send_to(&response, from).await.unwrap();
            }
        }));
    }
}

fn respond(question: &[u8], address: IpAddr) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let mut response = Message::response(question.metadata.id, OpCode::Query);
    response.metadata.recursion_available = true;
    response.add_query(query.clone());
    let name = query.name().to_ascii().to_lowercase();
    let data = match (query.query_type(), address) {
        _ if name.ends_with("nowhere.example.") => {
            response.metadata.response_code = ResponseCode::NXDomain;
            None
        }
        (RecordType::MX, _) => {
            let host = Name::from_ascii(format!("mx.{name}")).unwrap();
            Some(RData::MX(rdata::MX::new(10, host)))
        }
        (RecordType::A, IpAddr::V4(address)) => Some(RData::A(rdata::A(address))),
        _ => None,
    };
    if let Some(data) = data {
        response.add_answer(Record::from_rdata(query.name().clone(), 60, data));
    }
    response.to_vec().unwrap()
}

//! A name that no zone holds does not exist: the answer says so at once, and no question is
//! passed on to the outside.

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{net::UdpSocket, time::timeout};

use crate::support::{BOUND, Trial};

#[tokio::test]
async fn name_of_no_zone_does_not_exist() {
    let trial = Trial::start("no-zone").await;
    let socket = UdpSocket::bind("0.0.0.0:0").await.expect("bound");
    socket
        .connect(trial.cluster.dns().address())
        .await
        .expect("connected");
    let name = Name::from_ascii("www.postrider-nowhere.com.").expect("a name");
    let mut question = Message::query();
    question.add_query(Query::query(name, RecordType::A));
    socket
        .send(&question.to_vec().expect("encoded"))
        .await
        .expect("sent");
    let mut answer = vec![0; 4096];
    let length = timeout(BOUND, socket.recv(&mut answer))
        .await
        .expect("in time")
        .expect("got");
    let answer = Message::from_vec(&answer[..length]).expect("decoded");
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert!(answer.metadata.authoritative);
    trial.finish().await;
}

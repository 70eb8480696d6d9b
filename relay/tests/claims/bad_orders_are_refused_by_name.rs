//! An order that lacks something, or could be meant for other mail than its author thinks, is
//! refused with the field, its value and the remedy, and changes nothing.

use postrider_crds::relay_config::Admission::Send;
use serde_json::{Value, json};

use crate::support::{World, domain};

#[tokio::test]
async fn and_change_nothing() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let _relay = world.relay().await;
    let table: [(Value, u16, [&str; 2]); 7] = [
        (
            json!({"verb": "hold", "domain": "a.example", "resaon": "x"}),
            400,
            ["`resaon`", "`reason`"],
        ),
        (
            json!({"verb": "hold", "domain": "a.example"}),
            400,
            ["reason: \"\"", "write why"],
        ),
        (
            json!({"verb": "hold", "domain": "a.example", "tenant": "t", "reason": "x"}),
            400,
            ["domain \"a.example\" and tenant \"t\"", "exactly one"],
        ),
        (
            json!({"verb": "hold", "reason": "x"}),
            400,
            ["no mail is named", "exactly one"],
        ),
        (
            json!({"verb": "suspend", "domain": "a.example", "reason": "x", "until": "2020-01-01T00:00:00Z"}),
            400,
            ["until: 2020-01-01T00:00:00Z", "later time"],
        ),
        (
            json!({"verb": "expire", "message": "00000000000000000000000007", "reason": "x"}),
            404,
            ["00000000000000000000000007", "another relay"],
        ),
        (
            json!({"verb": "release", "domain": "a.example", "reason": "x"}),
            404,
            ["release", "domain a.example"],
        ),
    ];
    for (order, status, parts) in table {
        let (found, answer) = world.ask(order.clone()).await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{order}: {answer}");
        for part in parts {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
    assert!(world.queue().await.orders.is_empty());
}

//! The table of orders as it is stored.
//!
//! Promises: pure; what was put is read back as it was, to the nanosecond.

use std::sync::Arc;

use jiff::Timestamp;
use postrider_crds::queue::{Order, Scope, Verb};

use super::codec::{Reader, put_id, put_length, put_number, put_signed, put_text};
use crate::custody::orders::Orders;

/// Appends a table.
pub(super) fn put_orders(bytes: &mut Vec<u8>, orders: &Orders) {
    put_number(bytes, orders.revision);
    put_number(bytes, orders.last());
    put_length(bytes, orders.list().len());
    for order in orders.list() {
        put_order(bytes, order);
    }
}

fn put_order(bytes: &mut Vec<u8>, order: &Order) {
    put_number(bytes, order.number);
    bytes.push(match order.verb {
        Verb::Hold => 1,
        Verb::Release => 2,
        Verb::Suspend => 3,
        Verb::Resume => 4,
        Verb::Flush => 5,
        Verb::Expire => 6,
    });
    let (kind, name) = match &order.scope {
        Scope::Message(_) => (1, ""),
        Scope::Domain(domain) => (2, domain.as_str()),
        Scope::Site(site) => (3, site.as_str()),
        Scope::Tenant(tenant) => (4, tenant.as_str()),
    };
    bytes.push(kind);
    match order.scope {
        Scope::Message(id) => put_id(bytes, id),
        Scope::Domain(_) | Scope::Site(_) | Scope::Tenant(_) => put_text(bytes, name),
    }
    for text in [&order.by, &order.client, &order.reason] {
        put_text(bytes, text);
    }
    put_instant(bytes, order.given);
    bytes.push(u8::from(order.until.is_some()));
    if let Some(until) = order.until {
        put_instant(bytes, until);
    }
}

fn put_instant(bytes: &mut Vec<u8>, time: Timestamp) {
    put_signed(bytes, time.as_second());
    put_signed(bytes, time.subsec_nanosecond().into());
}

/// Reads what [`put_orders`] wrote.
pub(super) fn orders(reader: &mut Reader<'_>) -> Option<Arc<Orders>> {
    let (revision, last) = (reader.number()?, reader.number()?);
    let list = reader.list(order)?;
    Some(Arc::new(Orders::new(revision, last, list)))
}

fn order(reader: &mut Reader<'_>) -> Option<Order> {
    let number = reader.number()?;
    let verb = match reader.u8()? {
        1 => Verb::Hold,
        2 => Verb::Release,
        3 => Verb::Suspend,
        4 => Verb::Resume,
        5 => Verb::Flush,
        6 => Verb::Expire,
        _ => return None,
    };
    let scope = match reader.u8()? {
        1 => Scope::Message(reader.id()?),
        2 => Scope::Domain(reader.text()?.parse().ok()?),
        3 => Scope::Site(reader.text()?.parse().ok()?),
        4 => Scope::Tenant(reader.text()?.to_owned()),
        _ => return None,
    };
    Some(Order {
        number,
        verb,
        scope,
        by: reader.text()?.to_owned(),
        client: reader.text()?.to_owned(),
        reason: reader.text()?.to_owned(),
        given: instant(reader)?,
        until: match reader.flag()? {
            true => Some(instant(reader)?),
            false => None,
        },
    })
}

fn instant(reader: &mut Reader<'_>) -> Option<Timestamp> {
    let second = reader.signed()?;
    let nanosecond = i32::try_from(reader.signed()?).ok()?;
    Timestamp::new(second, nanosecond).ok()
}

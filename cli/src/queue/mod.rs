//! `postrider queue`: how much waits in a pool for what, and orders about it, at all of its pods.
//!
//! Flow: the pool's pods are listed; each is reached through the API server (port-forward) and
//! spoken to over its admin API with the client certificate of the pool. What each pod says is told
//! by pod; what they say together is added up.
//!
//! Promises: an order is checked before any pod hears of it; a pod that was not reached is named, and
//! the exit code is 1 then, as it is when no pod had anything to do.

mod merge;
mod pods;
mod table;

use std::process::ExitCode;

use jiff::SignedDuration;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use postrider_crds::{
    Duration,
    queue::{OrderAnswer, OrderProblem, OrderRequest, QueueOverview, Verb, paths},
};
use postrider_operator::clock::{Clock as _, SystemClock};
use serde::{Serialize, de::DeserializeOwned};

use self::{
    merge::Total,
    pods::{ClusterPods, Pods, Reached, Refusal},
};
use crate::{
    Answer,
    args::{Connection, Output, QueueArguments},
    cluster::Cluster,
    connect,
    error::Error,
    json,
};

/// What every pod of a pool answered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answers<T> {
    /// The pods that answered.
    pub(crate) answers: Vec<T>,
    /// The others.
    pub(crate) failures: Vec<Failure>,
}

/// A pod that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    /// Its name.
    pub(crate) pod: String,
    /// Why.
    pub(crate) error: String,
    /// Whether it has nothing that is meant; another pod may.
    pub(crate) nothing_there: bool,
}

/// How a pool's queue is shown.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// All pods together.
    pub(crate) total: Total,
    /// Each of them.
    #[serde(flatten)]
    pub(crate) pods: Answers<QueueOverview>,
}

/// Asks every pod how much waits for what.
async fn show(pods: &impl Pods) -> Result<View, Error> {
    let answers = ask(pods, Ask::Queue).await?;
    Ok(View {
        total: Total::of(&answers.answers),
        pods: answers,
    })
}

/// Gives an order to every pod.
async fn order_all(
    pods: &impl Pods,
    request: &OrderRequest,
) -> Result<Answers<OrderAnswer>, Error> {
    let body = serde_json::to_vec(request).map_err(Error::Render)?;
    ask(pods, Ask::Order(body)).await
}

/// What a pod is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// GET of the queue.
    Queue,
    /// POST of an order.
    Order(Vec<u8>),
}

impl Ask {
    /// The path of the admin API.
    pub(crate) const fn path(&self) -> &'static str {
        match self {
            Self::Queue => paths::QUEUE,
            Self::Order(_) => paths::ORDERS,
        }
    }
}

async fn ask<T: DeserializeOwned>(pods: &impl Pods, ask: Ask) -> Result<Answers<T>, Error> {
    let mut all = Answers {
        answers: Vec::new(),
        failures: Vec::new(),
    };
    for Reached { pod, answer } in pods.ask(&ask).await? {
        let failed = |refusal: Refusal| {
            let (error, nothing_there) = match refusal {
                Refusal::NothingThere(error) => (error, true),
                Refusal::Other(error) => (error, false),
            };
            Failure {
                pod,
                error,
                nothing_there,
            }
        };
        let read = answer.and_then(|body| {
            serde_json::from_slice(&body).map_err(|e| {
                Refusal::Other(format!(
                    "its answer is not understood: {e}; is this command older than the pod?"
                ))
            })
        });
        match read {
            Ok(answer) => all.answers.push(answer),
            Err(refusal) => all.failures.push(failed(refusal)),
        }
    }
    Ok(all)
}

impl<T> Answers<T> {
    /// Whether every pod did what was asked, or had nothing that was meant while another had.
    pub(crate) fn is_whole(&self) -> bool {
        !self.answers.is_empty() && self.failures.iter().all(|failure| failure.nothing_there)
    }
}

/// The command.
pub(crate) async fn run(
    connection: &Connection,
    arguments: QueueArguments,
) -> Result<Answer, Error> {
    let (pool, output) = (arguments.pool.clone(), arguments.output);
    let order = arguments.verb.map(|verb| request(verb, &arguments));
    let order = order.transpose().map_err(Error::Order)?;
    let (cluster, namespace) = connect(connection, arguments.namespace).await?;
    match order {
        None => {
            let pods = ClusterPods::of(cluster, &namespace, &pool).await?;
            let view = show(&pods).await?;
            let text = match output {
                Some(Output::Json) => json(&view)?,
                None => table::page(&view, &pool),
            };
            Ok(answer(text, &view.pods))
        }
        Some(mut request) => {
            request.by = Some(caller(&cluster).await?);
            let pods = ClusterPods::of(cluster, &namespace, &pool).await?;
            let answers = order_all(&pods, &request).await?;
            let text = match output {
                Some(Output::Json) => json(&answers)?,
                None => table::outcome(&answers),
            };
            Ok(answer(text, &answers))
        }
    }
}

fn answer<T>(text: String, answers: &Answers<T>) -> Answer {
    let code = ExitCode::from(u8::from(!answers.is_whole()));
    Answer { text, code }
}

/// The order of a command line, checked as the relays will check it.
fn request(verb: Verb, arguments: &QueueArguments) -> Result<OrderRequest, OrderProblem> {
    let in_a_while = |text: &str| {
        let wait: Duration = text.parse().ok()?;
        let wait = SignedDuration::from_secs(i64::try_from(wait.as_secs()).ok()?);
        let until = SystemClock::new().now().checked_add(wait).ok()?;
        Some(until.to_string())
    };
    let until = arguments.until.as_ref();
    let request = OrderRequest {
        verb: verb.to_string(),
        message: arguments.message.clone(),
        domain: arguments.domain.clone(),
        site: arguments.site.clone(),
        tenant: arguments.tenant.clone(),
        reason: arguments.reason.clone().unwrap_or_default(),
        by: None,
        until: until.map(|text| in_a_while(text).unwrap_or_else(|| text.clone())),
    };
    request.clone().check("postrider").map(|_| request)
}

/// Whom the API server takes the caller for: who gives the order.
async fn caller(cluster: &Cluster) -> Result<String, Error> {
    let review = cluster.review(&SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username).unwrap_or_default())
}

#[cfg(test)]
mod tests;

//! Whether the name servers of a zone bear out what the resolver says, before that is held against a
//! domain: a resolver asks one of them, which may be behind the others, or knows what was before.
//!
//! Promises: a finding that is borne out, or that nobody can say anything about, stays what it is; one
//! that is not becomes Unknown with the reason. Nothing is asked about a finding that is good.

use postrider_crds::{RecordState, RecordType, condition::reasons};

use super::{Finding, Resolver, authority::Agreement};

/// What a finding is about.
pub struct Question<'a> {
    /// Where the record may be.
    pub names: Vec<String>,
    /// Its type.
    pub kind: RecordType,
    /// What the text of such a record begins with.
    pub mark: &'a str,
}

/// `finding`, borne out by name servers or Unknown.
pub async fn confirmed(
    resolver: &dyn Resolver,
    finding: Finding,
    question: &Question<'_>,
) -> Finding {
    match finding.state {
        RecordState::Verified | RecordState::Unknown => return finding,
        RecordState::Missing | RecordState::Mismatch | RecordState::Conflict => {}
    }
    let mut texts = Vec::new();
    for name in &question.names {
        let authorities = resolver.authorities(name, question.kind).await;
        match authorities.agreement() {
            Agreement::Same(found) => texts.extend(found),
            Agreement::Split(problem) => return unsettled(finding, &problem),
            // Only the resolver is left to believe.
            Agreement::Silent(_) => return finding,
        }
    }
    texts.retain(|text| is_marked(text, question.mark));
    if bears_out(&texts, &finding) {
        return finding;
    }
    unsettled(finding, "the resolver is behind the name servers")
}

fn is_marked(text: &str, mark: &str) -> bool {
    let start = text.get(..mark.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(mark))
}

/// True when `texts` are what `finding` was made from.
fn bears_out(texts: &[String], finding: &Finding) -> bool {
    match (finding.state, &finding.seen) {
        (RecordState::Missing, _) => texts.is_empty(),
        (_, Some(seen)) => {
            let mut sorted = texts.to_vec();
            sorted.sort();
            let mut parts: Vec<&str> = seen.split(" | ").collect();
            parts.sort_unstable();
            let joined = super::bounded(&sorted.join(" | "));
            parts == sorted
                || joined == *seen
                || texts.iter().any(|text| super::bounded(text) == *seen)
        }
        // What is wrong is not in the record itself.
        (_, None) => true,
    }
}

fn unsettled(finding: Finding, problem: &str) -> Finding {
    Finding {
        state: RecordState::Unknown,
        reason: reasons::WAITING_FOR_PROPAGATION,
        message: format!("{problem}; the resolver says: {}", finding.message),
        ..finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{
        authority::{Authorities, Said, ServerAnswer, Trouble},
        fake::FakeResolver,
    };

    const NAME: &str = "bounce.example.com";
    const GOOD: &str = "v=spf1 ip4:192.0.2.1 -all";
    const OLD: &str = "v=spf1 ip4:192.0.2.9 -all";

    fn texts(texts: &[&str]) -> Said {
        Said::Records {
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            ttl: 60,
        }
    }

    fn missing() -> Finding {
        Finding::missing("publish this record".into())
    }

    fn mismatch(seen: &str) -> Finding {
        Finding::mismatch(reasons::SPF_NOT_PASSING, seen, "replace it".into())
    }

    async fn state(finding: Finding, said: &[Said]) -> (RecordState, String) {
        let answers = said.iter().zip(1..).map(|(said, n)| ServerAnswer {
            server: format!("ns{n}").into(),
            said: said.clone(),
        });
        let mut resolver = FakeResolver::default();
        let authorities = Authorities::Answered {
            answers: answers.collect(),
            cached: 60,
        };
        resolver.authorities.insert(NAME.into(), authorities);
        let question = Question {
            names: vec![NAME.into()],
            kind: RecordType::TXT,
            mark: "v=spf1",
        };
        let finding = confirmed(&resolver, finding, &question).await;
        (finding.state, finding.message)
    }

    #[tokio::test]
    async fn one_of_four_that_is_behind_makes_nothing_missing() {
        let four = |odd: Said| [texts(&[GOOD]), texts(&[GOOD]), texts(&[GOOD]), odd];
        for odd in [Said::NxDomain, Said::NoData, texts(&[OLD])] {
            let finding = if odd == texts(&[OLD]) {
                mismatch(OLD)
            } else {
                missing()
            };
            let (state, message) = state(finding, &four(odd)).await;
            assert_eq!(state, RecordState::Unknown);
            assert!(
                message.starts_with("the name servers ns1 and ns4 answer differently"),
                "{message}"
            );
        }
        // The resolver asked the one that is behind when the others were silent, or remembers.
        let silent = Said::Nothing(Trouble::Timeout);
        let (behind, message) = state(missing(), &[texts(&[GOOD]), silent.clone()]).await;
        assert_eq!(behind, RecordState::Unknown);
        assert!(message.contains("is behind the name servers"), "{message}");
        let (behind, _) = state(mismatch(OLD), &[texts(&[GOOD, "unrelated"])]).await;
        assert_eq!(behind, RecordState::Unknown);
    }

    #[tokio::test]
    async fn what_is_borne_out_or_cannot_be_stays() {
        let silent = Said::Nothing(Trouble::Timeout);
        for (finding, said) in [
            (missing(), vec![Said::NxDomain, Said::NoData]),
            (missing(), vec![texts(&["unrelated"]), silent.clone()]),
            (missing(), vec![silent.clone(), silent]),
            (mismatch(OLD), vec![texts(&["unrelated", OLD])]),
            (
                Finding::conflict(&[OLD.into(), GOOD.into()], "leave one".into()),
                vec![texts(&[GOOD, OLD])],
            ),
        ] {
            let wanted = finding.state;
            assert_eq!(state(finding, &said).await.0, wanted, "{said:?}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_about_what_is_good() {
        let resolver = FakeResolver::default();
        let question = Question {
            names: vec![NAME.into()],
            kind: RecordType::TXT,
            mark: "v=spf1",
        };
        let good = Finding::verified(GOOD, String::new());
        confirmed(&resolver, good, &question).await;
        assert_eq!(resolver.asked.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}

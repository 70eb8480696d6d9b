//! The real relay binary on loopback, with a real DNS server and real receivers of the tests' own.
//! One file a claim.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod a_changed_password_ends_open_sessions;
mod a_corrupt_configuration_is_refused_and_told;
mod a_leaving_domain_is_served_to_its_last_message;
mod a_new_domain_is_loaded_without_dropping_a_connection;
mod a_trusted_client_needs_no_login;
mod a_wrong_command_line_exits_64;
mod bad_orders_are_refused_by_name;
mod bad_submissions_are_refused_by_name;
mod chunks_are_taken_and_given;
mod doors_follow_the_configuration;
mod expired_mail_is_given_up_and_its_sender_told;
mod flushed_mail_is_tried_at_once;
mod greylisted_mail_is_tried_again;
mod held_mail_leaves_when_its_domain_may_send;
mod held_mail_waits_and_is_released;
mod mail_arrives_signed;
mod mail_waits_for_a_resolver_that_does_not_answer;
mod no_accepted_message_is_lost_by_a_full_disk;
mod no_accepted_message_is_lost_by_a_restart_with_a_large_queue;
mod no_accepted_message_is_lost_by_kill;
mod no_accepted_message_is_lost_by_sigterm;
mod passwords_are_guessed_slowly;
mod suppressed_recipients_are_never_mailed;
mod suspended_sites_get_no_attempt;
mod the_report_needs_a_client_certificate;
mod unknown_recipients_bounce_to_the_sender;
mod urgent_mail_overtakes_its_own_senders_backlog;

mod support;

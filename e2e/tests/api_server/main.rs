//! What a real API server makes of our definitions, manifests and chart. Needs no node and no root.

#[cfg(test)]
mod a_domain_leaves_with_its_last_message;
#[cfg(test)]
mod a_domain_moves_with_its_last_message;
#[cfg(test)]
mod all_refusals_reach_the_status;
#[cfg(test)]
mod chart_accepted_by_api_server;
#[cfg(test)]
mod command_reads_a_real_cluster;
#[cfg(test)]
mod crd_manifests;
#[cfg(test)]
mod dkim_key_steps;
#[cfg(test)]
mod joining_pods_are_told_of_standing_orders;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod mail_world;
#[cfg(test)]
mod metrics_are_as_prometheus_wants_them;
#[cfg(test)]
mod objects_of_others_are_left_alone;
#[cfg(test)]
mod pod;
#[cfg(test)]
mod pods_that_cannot_run_are_told;
#[cfg(test)]
mod private_keys_stay_in_secrets;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod queue_takes_the_rights_of_its_role;
#[cfg(test)]
mod refusal_world;
#[cfg(test)]
mod strict;
#[cfg(test)]
mod the_lease_is_given_up_at_a_signal_and_ends_who_loses_it;
#[cfg(test)]
mod what_cannot_be_decoded_is_not_gone;

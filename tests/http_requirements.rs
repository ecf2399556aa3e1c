//! What RFC 9110 (semantics), 9111 (caching) and 9112 (HTTP/1.1) demand of an origin server, requirement by requirement,
//! in our own words, each with the tests that show it is met.
//!
//! A test is named `file::function` for tests/file.rs and `http/file::function` for src/http/file.rs. A requirement
//! that does not reach us says why; one that we leave alone on purpose, only ever a SHOULD or a MAY, says why too. The
//! test at the end keeps the table honest: what it names is there.

use Level::{May, Must, Should};
use Proof::{Declined, NotApplicable, Shown};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// MUST and MUST NOT, REQUIRED.
    Must,
    /// SHOULD and SHOULD NOT, RECOMMENDED.
    Should,
    May,
}

#[derive(Clone, Copy, Debug)]
enum Proof {
    Shown(&'static [&'static str]),
    /// It binds somebody else, or something that we do not have.
    NotApplicable(&'static str),
    /// We could and do not.
    Declined(&'static str),
}

struct Row(&'static str, Level, &'static str, Proof);

const PROXY: &str = "it binds intermediaries, and this is an origin server";
const CLIENT: &str = "it binds clients";
const CACHE: &str = "it binds caches, and this server keeps none of HTTP's";
const NO_AUTH: &str = "nothing here asks for credentials";
const NO_UPGRADE: &str = "no other protocol is offered";

#[rustfmt::skip] // a row is read as one
const SEMANTICS: &[Row] = &[
    // 2. Conformance
    Row("2.2", Must, "generate nothing that breaks the grammar",
        Shown(&["http_semantics::head_is_get_without_content", "http_semantics::every_answer_has_its_date"])),
    Row("2.3", Must, "read element lengths of what is reasonable, and fail safely beyond",
        Shown(&["http_framing::a_target_too_long_is_414", "http_framing::a_head_too_large_is_431",
            "http_framing::too_many_fields_are_431"])),
    Row("2.4", May, "invalid constructs are refused rather than guessed at",
        Shown(&["http_smuggling::a_head_out_of_shape_is_refused"])),
    Row("2.5", Must, "answer a request of a higher minor version as the highest we know of its major",
        Shown(&["http_semantics::a_version_above_1_1_is_answered_as_1_1"])),
    Row("2.5", Should, "send our own highest version, 1.1, whatever minor was asked",
        Shown(&["http_framing::connections_persist_by_version_and_wish", "http_semantics::http_1_0_meets_no_transfer_encoding"])),
    Row("2.5", Must, "send no version that we do not conform to",
        Shown(&["http_semantics::a_version_above_1_1_is_answered_as_1_1"])),
    Row("2.5", May, "refuse a major version we do not speak with 505",
        Shown(&["http_framing::a_version_that_is_not_ours_is_refused"])),
    // 3, 4. Roles, identifiers
    Row("3.3", Must, "treat each request by itself, whatever came before on the connection",
        Shown(&["http_semantics::mixed_outcomes_keep_their_order_in_a_pipeline"])),
    Row("4.1", Should, "take URIs of 8000 octets at least",
        Shown(&["http_requirements::a_target_of_8000_bytes_is_within_the_default_limit",
            "http/head::the_limits_are_exact"])),
    Row("4.2.1", Must, "reject an http URI with an empty host",
        Shown(&["http/target::broken_targets_name_their_rule", "http_smuggling::a_head_out_of_shape_is_refused"])),
    Row("4.2.2", Must, "reject an https URI with an empty host", Shown(&["http_semantics::targets_in_every_form"])),
    Row("4.2.3", Should, "paths that normalisation makes equal name the same",
        Shown(&["http/target::paths_are_normalised_by_rfc_3986", "http_semantics::targets_in_every_form"])),
    Row("4.2.3", Must, "an empty path of an http URI is /", Shown(&["http_semantics::targets_in_every_form"])),
    Row("4.2.4", Should, "treat user information in an authority as an error",
        Shown(&["http_smuggling::a_head_out_of_shape_is_refused", "http_semantics::targets_in_every_form"])),
    Row("4.2.4", Must, "generate no user information in URIs", Shown(&["http_semantics::no_redirect_leads_elsewhere"])),
    Row("4.3.3", Must, "serve nothing of another origin as if it were ours: https is not",
        Shown(&["http_smuggling::an_authority_in_the_target_replaces_host_and_moves_nothing"])),
    // 5. Fields
    Row("5.1", Must, "field names in any case",
        Shown(&["http_framing::field_values_may_hold_tabs_spaces_and_high_bytes",
            "http_smuggling::chunked_in_every_valid_spelling_frames_the_body"])),
    Row("5.1", Should, "ignore fields we do not know", Shown(&["http_smuggling::other_fields_frame_nothing"])),
    Row("5.1", Must, "a field name is a token",
        Shown(&["http_framing::a_field_out_of_shape_is_refused", "http/head::every_broken_head_names_its_rule"])),
    Row("5.2", Must, "combine lines of a list field in their order",
        Shown(&["http_endpoints::several_accept_encoding_lines_are_one_list",
            "http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("5.3", Must, "generate no second line of a field that is no list",
        Shown(&["http_semantics::content_codings_by_their_weights", "http_semantics::head_is_get_without_content"])),
    Row("5.3", Must, "apply no request before its whole header section is here",
        Shown(&["http_framing::a_request_cut_at_every_byte_is_understood",
            "http_framing::a_client_gone_within_a_head_is_let_go"])),
    Row("5.3", Should, "send control data and what a recipient decides by first: status, Date and validators before content",
        Shown(&["proto/responder::small_content_has_its_exact_length"])),
    Row("5.4", Must, "answer fields that are too large with a 4xx and do not ignore them",
        Shown(&["http_framing::a_head_too_large_is_431", "http_framing::a_head_without_an_end_is_431_while_it_is_sent"])),
    Row("5.5", Must, "take white space around a value away before judging it",
        Shown(&["http/chars::only_space_and_tab_are_trimmed",
            "http_framing::field_values_may_hold_tabs_spaces_and_high_bytes"])),
    Row("5.5", Must, "CR, LF or NUL within a value: refuse the message or replace them; we refuse",
        Shown(&["http_framing::a_field_out_of_shape_is_refused", "http_smuggling::a_head_out_of_shape_is_refused"])),
    Row("5.5", May, "other control bytes are refused as well",
        Shown(&["http/chars::field_values_hold_no_control_byte_but_tab", "http_framing::a_field_out_of_shape_is_refused"])),
    Row("5.5", Should, "treat obs-text in values as opaque",
        Shown(&["http_framing::field_values_may_hold_tabs_spaces_and_high_bytes",
            "http_endpoints::user_agent_gives_the_fields_value"])),
    Row("5.5", Should, "generate values of visible ASCII",
        Shown(&["store_files::names_are_decoded_and_the_location_leads_back",
            "site_files::a_split_attempt_in_a_redirect_adds_no_field"])),
    Row("5.6.1.1", Must, "generate no empty list elements",
        Shown(&["http_semantics::every_405_has_a_true_allow", "http/method::a_set_is_written_as_an_allow_value"])),
    Row("5.6.1.2", Must, "read and skip empty list elements",
        Shown(&["http/list::the_rfc_examples_are_lists", "http_semantics::content_codings_by_their_weights"])),
    Row("5.6.2", Must, "tokens are of token characters only", Shown(&["http/chars::tchar_is_the_rfc_set"])),
    Row("5.6.3", Must, "read bad white space where the grammar marks it, generate none",
        Shown(&["http/chunked::bodies_are_decoded_however_they_are_cut"])),
    Row("5.6.4", Must, "read a quoted-pair as the byte behind the backslash",
        Shown(&["http/chars::quoted_strings_are_measured", "http/list::a_quoted_comma_does_not_separate"])),
    Row("5.6.6", Must, "parameters: names in any case, no white space around =",
        Shown(&["http/accept::media_types_are_chosen_by_weight_of_the_closest_range",
            "http_semantics::content_codings_by_their_weights"])),
    Row("5.6.7", Must, "read all three date forms",
        Shown(&["http_semantics::dates_in_three_forms_are_one_and_invalid_ones_none",
            "http/date::the_three_forms_of_the_rfc_are_one_time"])),
    Row("5.6.7", Must, "generate IMF-fixdate only",
        Shown(&["http_semantics::every_answer_has_its_date", "http/date::what_is_written_is_read_back"])),
    Row("5.6.7", Must, "dates are in UTC and case-sensitive", Shown(&["http/date::anything_else_is_no_date"])),
    Row("5.6.7", Must, "a two-digit year more than 50 years ahead is in the past",
        Shown(&["http/date::two_digit_years_look_back_past_fifty_years_ahead"])),
    // 6. Message abstraction
    Row("6.1", Must, "an incomplete request is not taken for a whole one",
        Shown(&["store_files::an_upload_that_ends_early_by_half_close_is_refused",
            "store_files::an_upload_killed_half_way_leaves_nothing"])),
    Row("6.4", Must, "framing is no part of the content", Shown(&["store_files::a_chunked_upload_is_decoded"])),
    Row("6.4.1", Must, "no content in answers to HEAD, in 204 and in 304",
        Shown(&["http_semantics::head_is_get_without_content",
            "http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("6.4.1", Must, "none to a HEAD that is refused for its syntax either",
        Shown(&["http_semantics::a_head_that_is_refused_has_no_content_either"])),
    Row("6.4.2", Must, "Content-Location only for what is at that address", NotApplicable("none is generated")),
    Row("6.5", Must, "generate trailers only where the recipient takes them", NotApplicable("none are generated")),
    Row("6.5.1", Must, "merge no trailer field into the header section unless its definition says so",
        Shown(&["http_smuggling::chunks_in_every_valid_form_are_read_to_their_end"])),
    Row("6.5.2", May, "discard trailers", Shown(&["http_smuggling::chunks_in_every_valid_form_are_read_to_their_end"])),
    Row("6.6.1", Must, "Date in every 2xx, 3xx and 4xx, as there is a clock",
        Shown(&["http_semantics::every_answer_has_its_date", "http_endpoints::every_answer_says_server_and_date"])),
    Row("6.6.1", Must, "no Date where there is no clock", NotApplicable("every machine this runs on has one")),
    Row("6.6.2", Should, "announce trailers by Trailer", NotApplicable("none are generated")),
    // 7. Routing
    Row("7.1", Must, "the target URI of origin-form comes from Host",
        Shown(&["http_framing::a_request_needs_exactly_one_valid_host"])),
    Row("7.2", Must, "Host is uri-host with an optional port",
        Shown(&["http/target::hosts", "http_framing::hosts_of_every_valid_form_are_taken"])),
    Row("7.3", Must, "decide by the URI whether to answer, not by the connection alone", NotApplicable(PROXY)),
    Row("7.4", Must, "reject an https request that came without TLS",
        Shown(&["http_semantics::targets_in_every_form", "http/target::broken_targets_name_their_rule"])),
    Row("7.4", May, "say so with 421", Shown(&["http_semantics::targets_in_every_form"])),
    Row("7.5", Must, "answer every request on a connection by one final answer",
        Shown(&["http_framing::five_hundred_requests_in_one_segment_are_answered_in_order",
            "http_semantics::mixed_outcomes_keep_their_order_in_a_pipeline"])),
    Row("7.6.1", Must, "connection options in any case",
        Shown(&["http_smuggling::a_connection_ends_where_its_request_says",
            "http/framing::persistence_follows_version_and_connection"])),
    Row("7.6.1", Must, "remove the fields that Connection names before forwarding", NotApplicable(PROXY)),
    Row("7.6.1", Must, "Connection names no field meant for all recipients",
        Shown(&["http_framing::connections_persist_by_version_and_wish"])),
    Row("7.6.2", Must, "Max-Forwards 0: answer as the final recipient",
        Shown(&["http_smuggling::other_fields_frame_nothing"])),
    Row("7.6.3", Must, "append to Via", NotApplicable(PROXY)),
    Row("7.7", Must, "transform nothing that says no-transform", NotApplicable(PROXY)),
    Row("7.8", May, "ignore Upgrade", Shown(&["http_smuggling::other_fields_frame_nothing"])),
    Row("7.8", Must, "ignore Upgrade in HTTP/1.0", Shown(&["http_semantics::http_1_0_meets_no_transfer_encoding"])),
    Row("7.8", Must, "101 names the protocol; 100 goes first", NotApplicable(NO_UPGRADE)),
    // 8. Representation
    Row("8.3", Should, "Content-Type with every content",
        Shown(&["site_files::types_follow_the_name_and_text_has_a_charset",
            "http_endpoints::an_error_page_speaks_the_clients_type"])),
    Row("8.3.3", Must, "multipart with its boundary, lines ending in CRLF",
        Shown(&["http_semantics::ranges_of_every_form"])),
    Row("8.4", Must, "name the codings applied, in order, in Content-Encoding",
        Shown(&["http_semantics::content_codings_by_their_weights"])),
    Row("8.4", Should, "identity is never named",
        Shown(&["http_semantics::content_codings_by_their_weights", "http/accept::codings_have_names_and_suffixes"])),
    Row("8.4", May, "refuse an upload in a coding we do not know",
        Declined("a store keeps bytes; their coding is theirs")),
    Row("8.4.1.2", Must, "deflate is the zlib format", Shown(&["http_semantics::content_codings_by_their_weights"])),
    Row("8.4.1.3", Should, "x-gzip is gzip", Shown(&["http_semantics::content_codings_by_their_weights"])),
    Row("8.6", Must, "Content-Length of HEAD is that of GET or absent",
        Shown(&["http_semantics::head_is_get_without_content"])),
    Row("8.6", Must, "Content-Length of a 304 is that of the 200 or absent",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("8.6", Must, "no Content-Length in 1xx and 204",
        Shown(&["proto/responder::no_length_where_the_status_forbids_content", "http_semantics::targets_in_every_form"])),
    Row("8.6", Must, "no Content-Length with a wrong number",
        Shown(&["site_files::files_of_every_size_arrive_byte_for_byte",
            "site_files::a_file_cut_short_while_it_is_sent_ends_the_connection"])),
    Row("8.6", Must, "no Content-Length in 2xx to CONNECT", NotApplicable("CONNECT is refused")),
    Row("8.6", Should, "Content-Length when the size is known before the fields end",
        Shown(&["site_files::files_of_every_size_arrive_byte_for_byte", "http_semantics::ranges_of_every_form"])),
    Row("8.6", Must, "read any Content-Length of digits, and let none overflow",
        Shown(&["http/framing::content_is_framed_one_way_or_refused",
            "http_smuggling::a_length_no_server_would_take_is_refused"])),
    Row("8.6", Must, "a list of lengths, equal or not: one or refused; we refuse",
        Shown(&["http_smuggling::a_content_length_in_doubt_is_refused"])),
    Row("8.7", Must, "no Content-Location that misleads", NotApplicable("none is generated")),
    Row("8.8", Should, "validators with what can be had again", Shown(&["http_semantics::validators_follow_the_file"])),
    Row("8.8.1", Must, "a strong validator changes with every change of the bytes",
        Shown(&["http_semantics::validators_follow_the_file", "http/etag::a_file_has_one_tag_and_each_coding_its_own"])),
    Row("8.8.2.1", Must, "no Last-Modified later than the Date",
        Shown(&["http_semantics::validators_follow_the_file", "site_files::modification_times_at_the_edges_break_nothing"])),
    Row("8.8.2.1", Should, "Last-Modified where a time of modification makes sense",
        Shown(&["site_files::last_modified_is_the_files_time"])),
    Row("8.8.2.2", Must, "a Last-Modified is weak until its second is over",
        Shown(&["http/conditional::a_last_modified_is_weak_until_its_second_is_over"])),
    Row("8.8.3", Must, "an entity tag is quoted and of etag characters",
        Shown(&["http/etag::tags_are_read_exactly", "http/etag::the_longest_tag_fits"])),
    Row("8.8.3.2", Must, "strong comparison: equal and neither weak",
        Shown(&["http/etag::comparison_follows_the_rfc_table"])),
    Row("8.8.3.2", Must, "weak comparison: equal", Shown(&["http/etag::comparison_follows_the_rfc_table"])),
    Row("8.8.3.3", Must, "a coded representation has its own strong tag",
        Shown(&["http_semantics::content_codings_by_their_weights",
            "http_matrix::every_cell_is_as_the_rfc_says"])),
    Row("8.8.4", Should, "both validators where both can be had", Shown(&["http_semantics::validators_follow_the_file"])),
    // 9. Methods
    Row("9.1", Must, "GET and HEAD are known", Shown(&["http_semantics::every_405_has_a_true_allow"])),
    Row("9.1", Must, "methods are case-sensitive",
        Shown(&["http/method::methods_are_case_sensitive", "http_endpoints::an_unknown_method_is_501"])),
    Row("9.1", Should, "an unknown method is 501", Shown(&["http_endpoints::an_unknown_method_is_501"])),
    Row("9.1", Should, "a known one that the resource does not allow is 405",
        Shown(&["http_endpoints::a_known_method_on_the_wrong_route_is_405_with_allow"])),
    Row("9.2.1", Must, "safe methods change nothing, whatever the query says",
        Shown(&["site_files::other_methods_are_405_with_allow", "store_files::what_is_missing_or_no_file_is_404"])),
    Row("9.2.2", Must, "PUT twice is PUT once", Shown(&["store_files::put_answers_201_for_new_and_204_for_replaced"])),
    Row("9.3.1", Should, "content of a GET means nothing",
        Shown(&["http_smuggling::a_body_behind_any_method_is_never_a_request"])),
    Row("9.3.2", Must, "HEAD sends no content",
        Shown(&["http_semantics::head_is_get_without_content", "http_endpoints::head_leaves_the_connection_in_step"])),
    Row("9.3.2", Should, "HEAD sends the fields of GET", Shown(&["http_semantics::head_is_get_without_content"])),
    Row("9.3.3", Should, "a POST that creates is 201 with a Location",
        Shown(&["store_files::post_creates_with_201_and_a_location_that_works"])),
    Row("9.3.4", Must, "a PUT that creates is 201", Shown(&["store_files::put_answers_201_for_new_and_204_for_replaced"])),
    Row("9.3.4", Must, "a PUT that replaces is 200 or 204",
        Shown(&["store_files::put_answers_201_for_new_and_204_for_replaced"])),
    Row("9.3.4", Should, "ignore fields of a PUT we do not know; store them not as state",
        Shown(&["http_smuggling::other_fields_frame_nothing"])),
    Row("9.3.4", Must, "no validator in the answer to a PUT, unless what it sent is stored as it is",
        Shown(&["http_semantics::an_answer_to_an_upload_claims_no_validator_of_what_it_sent"])),
    Row("9.3.4", Should, "PUT over what cannot be replaced is told, as 409 or another",
        Shown(&["store_files::an_upload_over_a_folder_is_refused"])),
    Row("9.3.4", Must, "a PUT that is answered with success has been stored",
        Shown(&["store_files::any_bytes_come_back_as_they_are", "store_files::an_upload_shows_only_when_it_is_whole"])),
    Row("9.3.5", Should, "DELETE answers 204, 202 or 200, and removes what was named", Shown(&["store_delete::a_file_is_removed_once"])),
    Row("9.3.5", Must, "a DELETE whose precondition fails removes nothing",
        Shown(&["store_delete::a_precondition_that_fails_keeps_the_file"])),
    Row("9.3.6", Must, "CONNECT without a port is refused",
        Shown(&["http/target::forms_go_with_methods", "http_semantics::targets_in_every_form"])),
    Row("9.3.6", May, "an origin server need not take CONNECT",
        Shown(&["http_smuggling::a_body_behind_any_method_is_never_a_request"])),
    Row("9.3.7", Should, "OPTIONS tells what is supported, in Allow",
        Shown(&["http_endpoints::options_tells_the_methods_of_a_route"])),
    Row("9.3.7", Must, "OPTIONS * is of the server as a whole", Shown(&["http_semantics::targets_in_every_form"])),
    Row("9.3.8", Must, "TRACE leaves credentials out and sends no content of its own", NotApplicable("TRACE is refused")),
    // 10. Context
    Row("10.1.1", Must, "an expectation we cannot meet is 417",
        Shown(&["http_semantics::an_expectation_in_any_case_is_met_before_the_content",
            "http_framing::an_unknown_expectation_is_417"])),
    Row("10.1.1", Must, "expectations in any case",
        Shown(&["http_semantics::an_expectation_in_any_case_is_met_before_the_content"])),
    Row("10.1.1", Must, "100-continue in HTTP/1.0 is ignored", Shown(&["http_framing::http_1_0_is_never_sent_100"])),
    Row("10.1.1", Must, "after 100 a final answer follows when the content is read",
        Shown(&["store_files::a_client_that_expects_100_is_told_to_continue"])),
    Row("10.1.1", Must, "a final answer, or 100 at once, for who waits",
        Shown(&["http_semantics::no_100_once_the_answer_is_known", "store_files::an_upload_refused_by_its_head_gets_no_100"])),
    Row("10.1.1", May, "no 100 when there is no content, or when it has begun to come",
        Shown(&["http_framing::an_expectation_without_a_body_changes_nothing", "http_smuggling::an_expectation_moves_nothing"])),
    Row("10.1.1", Should, "a final answer instead of 100 says whether the connection closes",
        Shown(&["http_semantics::no_100_once_the_answer_is_known"])),
    Row("10.1.1", Must, "no content waited for that its sender does not send",
        Shown(&["http_timeouts::a_body_that_stops_is_answered_408_and_leaves_nothing"])),
    Row("10.1.4", Must, "TE is of the connection: no coding that was not asked for",
        Shown(&["http_semantics::http_1_0_meets_no_transfer_encoding"])),
    Row("10.2.1", Must, "Allow lists the methods of the resource in every 405",
        Shown(&["http_semantics::every_405_has_a_true_allow"])),
    Row("10.2.2", Must, "Location is a URI reference, made safe",
        Shown(&["http_semantics::no_redirect_leads_elsewhere", "site_files::a_redirect_never_leads_to_another_host"])),
    Row("10.2.3", May, "Retry-After with 503", Declined("how long the shortage of descriptors lasts is not known")),
    Row("10.2.4", Should, "Server without needless detail", Shown(&["http_endpoints::every_answer_says_server_and_date"])),
    // 11. Authentication
    Row("11.6.1", Must, "WWW-Authenticate with every 401", NotApplicable(NO_AUTH)),
    Row("11.7.1", Must, "Proxy-Authenticate with every 407", NotApplicable(PROXY)),
    // 12. Negotiation
    Row("12.4.2", Must, "weights of at most three decimals; 0 is not acceptable",
        Shown(&["http_semantics::content_codings_by_their_weights",
            "http/accept::codings_are_chosen_by_weight_then_by_our_order"])),
    Row("12.4.3", Must, "* stands for what is not named", Shown(&["http_semantics::content_codings_by_their_weights"])),
    Row("12.5.1", Should, "Accept: the most specific range that fits decides",
        Shown(&["http/accept::media_types_are_chosen_by_weight_of_the_closest_range"])),
    Row("12.5.1", May, "what is not acceptable is sent all the same",
        Shown(&["http_semantics::the_error_speaks_the_format_that_is_preferred"])),
    Row("12.5.3", Must, "no Accept-Encoding: any coding would do; we send plain bytes",
        Shown(&["http/accept::without_the_field_bytes_are_plain"])),
    Row("12.5.3", Must, "identity is acceptable unless excluded by name or by *",
        Shown(&["http_semantics::content_codings_by_their_weights"])),
    Row("12.5.3", Should, "the acceptable coding with the highest weight",
        Shown(&["http_semantics::content_codings_by_their_weights"])),
    Row("12.5.3", Should, "an empty field means identity", Shown(&["http_semantics::content_codings_by_their_weights"])),
    Row("12.5.3", Should, "no coding when none offered is acceptable, unless identity is excluded: then 406",
        Shown(&["http_semantics::a_406_only_where_nothing_else_is_left"])),
    Row("12.5.5", Should, "Vary names the fields that chose the representation",
        Shown(&["http_semantics::content_codings_by_their_weights",
            "http_matrix::every_cell_is_as_the_rfc_says"])),
    // 13. Conditional requests
    Row("13.1.1", Must, "If-Match compares strongly",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2",
            "http/conditional::if_match_compares_strongly"])),
    Row("13.1.1", Must, "If-Match: * needs a current representation",
        Shown(&["http_semantics::uploads_under_preconditions",
            "http/conditional::a_star_stands_for_any_current_representation"])),
    Row("13.1.1", Must, "If-Match that fails: nothing is done, 412",
        Shown(&["http_semantics::uploads_under_preconditions", "http_semantics::generated_content_has_preconditions_too"])),
    Row("13.1.2", Must, "If-None-Match compares weakly",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2",
            "http/conditional::if_none_match_compares_weakly"])),
    Row("13.1.2", Must, "If-None-Match: * fails where there is a representation",
        Shown(&["http_semantics::uploads_under_preconditions"])),
    Row("13.1.2", Must, "If-None-Match that fails: 304 to GET and HEAD, else 412",
        Shown(&["http_semantics::uploads_under_preconditions",
            "http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("13.1.3", Must, "ignore If-Modified-Since beside If-None-Match",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("13.1.3", Must, "ignore it when it is no date, stands twice, or the method is neither GET nor HEAD",
        Shown(&["http_semantics::dates_in_three_forms_are_one_and_invalid_ones_none",
            "http_semantics::preconditions_hold_in_the_order_of_section_13_2_2", "http_semantics::uploads_under_preconditions"])),
    Row("13.1.3", Must, "ignore it where there is no modification date",
        Shown(&["http_semantics::generated_content_has_preconditions_too"])),
    Row("13.1.3", Should, "304 when it was not modified since",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("13.1.4", Must, "ignore If-Unmodified-Since beside If-Match",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("13.1.4", Must, "ignore it when it is no date or stands twice, or where there is none to compare",
        Shown(&["http_semantics::dates_in_three_forms_are_one_and_invalid_ones_none",
            "http_semantics::generated_content_has_preconditions_too"])),
    Row("13.1.4", Must, "If-Unmodified-Since that fails: nothing is done, 412",
        Shown(&["http_semantics::uploads_under_preconditions",
            "http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("13.1.5", Must, "ignore If-Range without Range", Shown(&["http_semantics::if_range_lets_a_range_count_or_not"])),
    Row("13.1.5", Must, "If-Range compares strongly, a date exactly",
        Shown(&["http_semantics::if_range_lets_a_range_count_or_not",
            "http/conditional::if_range_takes_strong_validators_only"])),
    Row("13.1.5", Must, "a false If-Range: the range is ignored",
        Shown(&["http_semantics::if_range_lets_a_range_count_or_not"])),
    Row("13.2.1", Must, "ignore preconditions where the answer without them is neither 2xx nor 412",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("13.2.1", Must, "ignore them for OPTIONS, TRACE and CONNECT",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("13.2.1", Must, "evaluate them before the content is taken",
        Shown(&["http_semantics::no_100_once_the_answer_is_known"])),
    Row("13.2.2", Must, "evaluate them in the order given",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2",
            "http_matrix::every_cell_is_as_the_rfc_says"])),
    // 14. Ranges
    Row("14.1", Must, "range units in any case", Shown(&["http_semantics::ranges_of_every_form"])),
    Row("14.1.1", Must, "a last-pos before its first-pos makes the set invalid",
        Shown(&["http_semantics::ranges_of_every_form", "http/range::malformed_values_and_other_units_are_ignored"])),
    Row("14.1.2", Must, "a last-pos past the end is the end; none means the end",
        Shown(&["http_semantics::ranges_of_every_form", "http/range::ends_are_clamped"])),
    Row("14.1.2", Must, "a suffix longer than the representation is all of it",
        Shown(&["http_semantics::ranges_of_every_form"])),
    Row("14.1.2", Must, "numbers of any size are read without overflow", Shown(&["http_semantics::ranges_of_every_form"])),
    Row("14.1.2", Must, "satisfiable when one range is; a suffix of 0 and a first-pos past the end are not",
        Shown(&["http_semantics::ranges_of_every_form", "http_semantics::ranges_of_nothing"])),
    Row("14.2", Must, "ignore Range with any method but GET",
        Shown(&["http_semantics::ranges_of_every_form", "http_semantics::uploads_under_preconditions"])),
    Row("14.2", Must, "ignore a unit we do not know", Shown(&["http_semantics::ranges_of_every_form"])),
    Row("14.2", May, "ignore an invalid set, and sets that are an attack",
        Shown(&["http_semantics::a_flood_of_ranges_costs_no_more_than_the_whole",
            "http/range::abusive_sets_get_the_whole"])),
    Row("14.2", Should, "answer 206 when all conditions hold", Shown(&["http_semantics::ranges_of_every_form"])),
    Row("14.2", Should, "answer 416 when the set cannot be had", Shown(&["http_semantics::ranges_of_every_form"])),
    Row("14.2", Must, "evaluate Range after the preconditions of 13.1.1 to 13.1.4",
        Shown(&["http_matrix::every_cell_is_as_the_rfc_says"])),
    Row("14.3", May, "Accept-Ranges: bytes where ranges are served", Shown(&["http_semantics::ranges_of_every_form"])),
    Row("14.4", Must, "Content-Range only with 206 and 416, and valid",
        Shown(&["http_semantics::ranges_of_every_form", "http/range::content_range_has_two_forms"])),
    Row("14.4", Must, "Content-Range of a 416 tells the length",
        Shown(&["http_semantics::ranges_of_every_form", "http_semantics::ranges_of_nothing"])),
    Row("14.5", Should, "a PUT with Content-Range is 400 unless parts are supported",
        Shown(&["http_semantics::a_part_of_a_file_is_not_stored"])),
    Row("14.6", Must, "multipart/byteranges: a part has its Content-Range, and its type where the whole has one",
        Shown(&["http_semantics::ranges_of_every_form"])),
    // 15. Status codes
    Row("15", Must, "three digits; the class decides", Shown(&["http_semantics::targets_in_every_form"])),
    Row("15.2", Must, "no 1xx to HTTP/1.0", Shown(&["http_framing::http_1_0_is_never_sent_100"])),
    Row("15.3.5", Must, "204 ends with its fields",
        Shown(&["http_semantics::mixed_outcomes_keep_their_order_in_a_pipeline"])),
    Row("15.3.6", Must, "205 has no content", Shown(&["proto/responder::a_205_has_no_content_and_says_so"])),
    Row("15.3.7", Must, "206 has Date, ETag, Vary, Cache-Control, Expires as 200 has them",
        Shown(&["http_semantics::ranges_of_every_form"])),
    Row("15.3.7", Should, "a 206 under If-Range repeats no more representation fields than it must",
        Declined("clients that resume read Content-Type and Last-Modified of every answer, and the fields cost less than a mistake")),
    Row("15.3.7.1", Must, "one part: Content-Range in the header section, no multipart",
        Shown(&["http_semantics::ranges_of_every_form"])),
    Row("15.3.7.2", Must, "several parts: multipart/byteranges, no Content-Range in the header section",
        Shown(&["http_semantics::ranges_of_every_form"])),
    Row("15.3.7.2", Must, "no multipart for a request of a single range", Shown(&["http_semantics::ranges_of_every_form"])),
    Row("15.3.7.2", May, "overlapping and adjoining ranges are one; the order is kept",
        Shown(&["http/range::near_ranges_coalesce_where_the_first_was", "http/range::order_is_kept"])),
    Row("15.4", Should, "301 with Location and a short text",
        Shown(&["site_files::a_folder_without_its_slash_is_redirected_with_the_query_kept"])),
    Row("15.4.5", Must, "304 has Date, ETag, Vary, Cache-Control, Expires as 200 has them",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2",
            "site_caching::a_304_carries_what_the_200_would_have"])),
    Row("15.4.5", Should, "304 repeats nothing else that the client has",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("15.5", Should, "a 4xx explains itself, except to HEAD",
        Shown(&["http_endpoints::an_error_page_speaks_the_clients_type"])),
    Row("15.5.1", May, "400 for what is broken", Shown(&["http_smuggling::a_head_out_of_shape_is_refused"])),
    Row("15.5.6", Must, "405 has Allow", Shown(&["http_semantics::every_405_has_a_true_allow"])),
    Row("15.5.9", Should, "408 says Connection: close", Shown(&["http_timeouts::a_head_that_stops_is_answered_408"])),
    Row("15.5.14", May, "413 closes the connection",
        Shown(&["store_files::an_upload_over_the_limit_is_413_and_leaves_nothing"])),
    Row("15.5.17", Should, "416 has Content-Range with the length", Shown(&["http_semantics::ranges_of_every_form"])),
    Row("15.5.20", Must, "421 is not generated by a proxy", NotApplicable(PROXY)),
    Row("15.5.22", Must, "426 has Upgrade", NotApplicable(NO_UPGRADE)),
    Row("15.6", Should, "a 5xx explains itself", Shown(&["http_endpoints::an_unknown_method_is_501"])),
    Row("15.6.6", Should, "505 says why", Shown(&["http_framing::a_version_that_is_not_ours_is_refused"])),
    // 17. Security
    Row("17.3", Must, "names that lead out of what is served lead nowhere",
        Shown(&["site_files::no_spelling_of_a_path_leaves_the_site", "store_files::no_spelling_of_a_path_writes_outside_the_store",
            "http_semantics::targets_in_every_form"])),
    Row("17.15", Should, "many or overlapping ranges cost no more than the whole",
        Shown(&["http_semantics::a_flood_of_ranges_costs_no_more_than_the_whole"])),
];

#[rustfmt::skip]
const CACHING: &[Row] = &[
    Row("3", Must, "store only what may be stored", NotApplicable(CACHE)),
    Row("4", Must, "reuse only what is fresh or validated", NotApplicable(CACHE)),
    Row("4.1", Should, "an origin lets caches choose by Vary", Shown(&["http_semantics::content_codings_by_their_weights"])),
    Row("4.2.1", Should, "Expires and Cache-Control agree",
        NotApplicable("neither is sent unless the user asks for it")),
    Row("4.2.3", Must, "an origin tells Date, from which age is counted",
        Shown(&["http_semantics::every_answer_has_its_date"])),
    Row("4.3.1", Must, "an origin gives validators that a cache can ask with",
        Shown(&["http_semantics::validators_follow_the_file"])),
    Row("4.3.3", Must, "a 304 lets the cache update what it has: the same validators",
        Shown(&["http_semantics::preconditions_hold_in_the_order_of_section_13_2_2"])),
    Row("4.3.5", Should, "HEAD freshens: its fields are those of GET",
        Shown(&["http_semantics::head_is_get_without_content"])),
    Row("4.4", Must, "invalidate after unsafe methods", NotApplicable(CACHE)),
    Row("5.1", Must, "Age is not sent with what comes fresh from the origin",
        Shown(&["http_requirements::no_answer_has_an_age"])),
    Row("5.2", Must, "a cache obeys directives", NotApplicable(CACHE)),
    Row("5.2.1", May, "request directives may be ignored by an origin",
        Shown(&["http_smuggling::other_fields_frame_nothing"])),
    Row("5.3", Must, "Expires is a date", NotApplicable("none is sent unless the user asks for it")),
    Row("5.4", Should, "no Pragma is sent", Shown(&["http_requirements::no_answer_has_an_age"])),
    Row("5.5", Should, "no Warning is sent", Shown(&["http_requirements::no_answer_has_an_age"])),
];

#[rustfmt::skip]
const MESSAGES: &[Row] = &[
    // 2. Message
    Row("2.2", Must, "parse as octets, of a superset of ASCII",
        Shown(&["http_framing::field_values_may_hold_tabs_spaces_and_high_bytes"])),
    Row("2.2", May, "a lone LF may end a line; we refuse it everywhere, as another server may not",
        Shown(&["http_smuggling::a_head_out_of_shape_is_refused", "http_smuggling::a_broken_chunk_ends_the_connection",
            "http/head::every_broken_head_names_its_rule"])),
    Row("2.2", Must, "a bare CR outside the content is invalid or a space; we refuse it",
        Shown(&["http_smuggling::a_head_out_of_shape_is_refused", "http_framing::a_field_out_of_shape_is_refused"])),
    Row("2.2", Should, "skip an empty line before a request line",
        Shown(&["http_framing::empty_lines_before_a_request_are_skipped"])),
    Row("2.2", Must, "white space between start line and first field: refuse or drop; we refuse",
        Shown(&["http_framing::a_field_out_of_shape_is_refused", "http/head::every_broken_head_names_its_rule"])),
    Row("2.2", Should, "what is no HTTP is answered 400 and closed",
        Shown(&["http_framing::bytes_of_other_protocols_are_refused"])),
    Row("2.2", Must, "generate no bare CR",
        Shown(&["site_files::a_split_attempt_in_a_redirect_adds_no_field",
            "site_files::a_name_of_any_bytes_is_listed_and_served"])),
    Row("2.3", Must, "HTTP-version is case-sensitive, two digits and a dot",
        Shown(&["http_framing::a_version_that_is_not_ours_is_refused", "http_smuggling::a_head_out_of_shape_is_refused"])),
    Row("2.3", Should, "our answers are of HTTP/1.1", Shown(&["http_framing::connections_persist_by_version_and_wish"])),
    // 3. Request line
    Row("3", Must, "exactly one SP between the parts; a lenient reading is ours to decline",
        Shown(&["http_framing::a_request_line_out_of_shape_is_refused", "http_smuggling::a_head_out_of_shape_is_refused"])),
    Row("3", Should, "an invalid request line is 400, not a guess",
        Shown(&["http_framing::a_request_line_out_of_shape_is_refused"])),
    Row("3", Should, "a method longer than any we know is 501", Shown(&["http_requirements::a_long_method_is_501"])),
    Row("3", Must, "a target longer than we read is 414", Shown(&["http_framing::a_target_too_long_is_414"])),
    Row("3", Should, "request lines of 8000 octets are read",
        Shown(&["http_requirements::a_target_of_8000_bytes_is_within_the_default_limit"])),
    Row("3.1", Must, "the method is case-sensitive", Shown(&["http_endpoints::an_unknown_method_is_501"])),
    Row("3.2", Must, "no white space in a target", Shown(&["http_framing::a_request_line_out_of_shape_is_refused"])),
    Row("3.2", Must, "400 for a 1.1 request without Host, with two, or with an invalid one",
        Shown(&["http_framing::a_request_needs_exactly_one_valid_host", "http_smuggling::a_head_out_of_shape_is_refused",
            "http/framing::one_valid_host"])),
    Row("3.2", Must, "two Hosts or an invalid one in 1.0 as well",
        Shown(&["http_framing::a_request_needs_exactly_one_valid_host", "http_framing::http_1_0_needs_no_host"])),
    Row("3.2.1", Must, "origin-form begins with /",
        Shown(&["http/target::broken_targets_name_their_rule", "http_semantics::targets_in_every_form"])),
    Row("3.2.2", Must, "take absolute-form",
        Shown(&["http_endpoints::a_request_in_absolute_form_reaches_the_same_route", "http_semantics::targets_in_every_form"])),
    Row("3.2.2", Must, "its authority replaces Host, which is ignored",
        Shown(&["http_smuggling::an_authority_in_the_target_replaces_host_and_moves_nothing"])),
    Row("3.2.3", Must, "authority-form is of CONNECT alone",
        Shown(&["http/target::forms_go_with_methods", "http_semantics::targets_in_every_form"])),
    Row("3.2.4", Must, "asterisk-form is of OPTIONS alone; an absolute-form OPTIONS without path and query means it",
        Shown(&["http/target::forms_go_with_methods", "http_semantics::targets_in_every_form"])),
    Row("3.3", Must, "no Host and no authority: the server's own", Shown(&["http_framing::http_1_0_needs_no_host"])),
    // 4. Status line
    Row("4", Must, "version SP three digits SP reason, the SP also where there is no reason",
        Shown(&["proto/responder::small_content_has_its_exact_length", "http_semantics::every_answer_has_its_date"])),
    // 5. Fields
    Row("5", Must, "no white space between name and colon: 400",
        Shown(&["http_framing::a_field_out_of_shape_is_refused",
            "http_smuggling::what_only_looks_like_transfer_encoding_is_refused"])),
    Row("5.1", Must, "white space around a value is no part of it", Shown(&["http/head::a_head_is_parsed_into_spans"])),
    Row("5.2", Must, "a folded line is refused with 400 or unfolded; we refuse",
        Shown(&["http_framing::a_field_out_of_shape_is_refused",
            "http_smuggling::what_only_looks_like_transfer_encoding_is_refused"])),
    Row("5.2", Must, "generate no folded line", Shown(&["http_semantics::head_is_get_without_content"])),
    // 6. Body
    Row("6", Must, "the framing tells whether there is content, whatever the method",
        Shown(&["http_smuggling::a_body_behind_any_method_is_never_a_request"])),
    Row("6.1", Must, "read the chunked coding",
        Shown(&["http_smuggling::chunked_in_every_valid_spelling_frames_the_body",
            "http/chunked::bodies_are_decoded_however_they_are_cut"])),
    Row("6.1", Must, "apply chunked once and last", Shown(&["proto/conn::content_is_framed_as_announced"])),
    Row("6.1", Must, "no Transfer-Encoding in 1xx, 204 and answers to CONNECT",
        Shown(&["http_semantics::mixed_outcomes_keep_their_order_in_a_pipeline",
            "proto/responder::no_length_where_the_status_forbids_content"])),
    Row("6.1", Must, "no Transfer-Encoding to who did not say HTTP/1.1",
        Shown(&["http_semantics::http_1_0_meets_no_transfer_encoding", "site_files::a_coded_answer_to_http_1_0_is_not_chunked"])),
    Row("6.1", Should, "a transfer coding we do not know is 501",
        Shown(&["http_smuggling::a_transfer_coding_other_than_chunked_is_refused"])),
    Row("6.1", May, "Content-Length beside Transfer-Encoding is refused",
        Shown(&["http_smuggling::content_length_beside_transfer_encoding_is_refused"])),
    Row("6.1", Must, "and the connection closed after it",
        Shown(&["http_smuggling::content_length_beside_transfer_encoding_is_refused"])),
    Row("6.1", Must, "Transfer-Encoding in HTTP/1.0 is broken framing: the connection closes",
        Shown(&["http_smuggling::transfer_encoding_in_an_old_version_is_refused"])),
    Row("6.1", Must, "codings in any case", Shown(&["http_smuggling::chunked_in_every_valid_spelling_frames_the_body"])),
    Row("6.2", Must, "send no Content-Length beside Transfer-Encoding",
        Shown(&["site_files::text_is_gzipped_when_accepted_and_says_vary"])),
    Row("6.3", Must, "1: HEAD, 1xx, 204, 304 end with their fields",
        Shown(&["http_semantics::mixed_outcomes_keep_their_order_in_a_pipeline"])),
    Row("6.3", Must, "3: Transfer-Encoding goes before Content-Length, or is refused with it",
        Shown(&["http_smuggling::content_length_beside_transfer_encoding_is_refused"])),
    Row("6.3", Must, "4: chunked not last in a request: 400 and close",
        Shown(&["http_smuggling::a_transfer_coding_other_than_chunked_is_refused",
            "http/framing::content_is_framed_one_way_or_refused"])),
    Row("6.3", Must, "5: an invalid Content-Length in a request: 400 and close",
        Shown(&["http_smuggling::a_content_length_in_doubt_is_refused"])),
    Row("6.3", Must, "6: fewer bytes than Content-Length: incomplete, close",
        Shown(&["store_files::an_upload_that_ends_early_by_half_close_is_refused"])),
    Row("6.3", Must, "7: a request without framing has no content",
        Shown(&["http_smuggling::a_connection_ends_where_its_request_says"])),
    Row("6.3", May, "411 for content without Content-Length", Declined("chunked content is read as it comes")),
    Row("6.3", Must, "no content that is ended by the close is taken for whole when its framing says more",
        Shown(&["site_files::a_file_cut_short_while_it_is_sent_ends_the_connection"])),
    // 7. Transfer codings
    Row("7", Must, "chunked has no parameters; one with is an error",
        Shown(&["http_smuggling::a_transfer_coding_other_than_chunked_is_refused"])),
    Row("7.1", Must, "read and decode chunked",
        Shown(&["store_files::a_chunked_upload_is_decoded", "http_mutate::chunked_bodies"])),
    Row("7.1", Must, "chunk sizes of any length without overflow",
        Shown(&["http_smuggling::a_broken_chunk_ends_the_connection", "http_framing::a_chunk_out_of_shape_is_refused"])),
    Row("7.1.1", Must, "ignore chunk extensions we do not know",
        Shown(&["http_smuggling::chunks_in_every_valid_form_are_read_to_their_end"])),
    Row("7.1.1", Should, "limit chunk extensions",
        Shown(&["http_framing::a_chunk_extension_or_trailer_without_an_end_is_refused",
            "http/chunked::framing_has_its_limits"])),
    Row("7.1.2", Must, "a trailer is never taken for a header field",
        Shown(&["http_smuggling::chunks_in_every_valid_form_are_read_to_their_end"])),
    Row("7.1.2", Should, "limit the trailer section",
        Shown(&["http_framing::a_chunk_extension_or_trailer_without_an_end_is_refused"])),
    Row("7.2", Must, "compress, deflate and gzip as transfer codings",
        NotApplicable("only a recipient that offers them in TE gets them, and only chunked is read: others are 501")),
    Row("7.4", Must, "chunked is always acceptable in 1.1, whatever TE says",
        Shown(&["site_files::text_is_gzipped_when_accepted_and_says_vary"])),
    Row("7.4", Must, "no trailers that the client did not ask for", NotApplicable("none are generated")),
    // 8. Incomplete messages
    Row("8", May, "an incomplete request is answered before the close",
        Shown(&["http_framing::a_client_gone_within_a_head_is_let_go",
            "store_files::an_upload_that_ends_early_by_half_close_is_refused"])),
    Row("8", Must, "a chunked answer that breaks off has no last chunk",
        Shown(&["site_files::a_file_cut_short_while_it_is_sent_ends_the_connection"])),
    // 9. Connections
    Row("9.2", Must, "answers in the order of their requests",
        Shown(&["http_framing::five_hundred_requests_in_one_segment_are_answered_in_order",
            "http_semantics::mixed_outcomes_keep_their_order_in_a_pipeline"])),
    Row("9.3", Must, "close: the connection ends after this answer",
        Shown(&["http_smuggling::a_connection_ends_where_its_request_says",
            "http_framing::connections_persist_by_version_and_wish"])),
    Row("9.3", Must, "1.1 persists without a word; 1.0 only by keep-alive",
        Shown(&["http_framing::connections_persist_by_version_and_wish",
            "http/framing::persistence_follows_version_and_connection"])),
    Row("9.3", Must, "read the whole content of a request, or close after the answer",
        Shown(&["http_framing::a_body_nobody_wants_is_never_read_as_a_request",
            "http_smuggling::a_body_behind_any_method_is_never_a_request"])),
    Row("9.3", Must, "every message on a persistent connection tells its own length",
        Shown(&["http_semantics::head_is_get_without_content", "http_semantics::http_1_0_meets_no_transfer_encoding"])),
    Row("9.3.2", May, "pipelined safe requests are worked on in order",
        Shown(&["http_framing::pipelined_uploads_and_reads_keep_their_order"])),
    Row("9.3.2", Must, "pipelined answers in order",
        Shown(&["http_framing::five_hundred_requests_in_one_segment_are_answered_in_order"])),
    Row("9.4", May, "refuse connections that abuse the server",
        Shown(&["engine_fairness::above_max_connections_a_client_waits_its_turn"])),
    Row("9.5", Should, "watch for the other side's close and follow it",
        Shown(&["http_framing::clients_that_vanish_hurt_nobody", "http_framing::a_half_closed_client_gets_every_answer"])),
    Row("9.5", May, "close what is idle",
        Shown(&["http_timeouts::an_idle_connection_is_closed_without_a_word", "http_semantics::empty_lines_win_no_time"])),
    Row("9.6", Must, "send close in the last answer, and close after it",
        Shown(&["http_smuggling::a_connection_ends_where_its_request_says"])),
    Row("9.6", Must, "process no request behind one that was refused or was the last",
        Shown(&["http_framing::nothing_is_answered_behind_connection_close",
            "http_smuggling::a_broken_chunk_ends_the_connection"])),
    Row("9.6", Should, "close in stages, so that the answer is not lost to a reset",
        Shown(&["http_framing::an_error_answer_arrives_though_the_client_still_sends"])),
    Row("9.7", Must, "TLS", NotApplicable("this server speaks plain TCP; TLS is a proxy's before it")),
    // 11. Security
    Row("11.1", Must, "no CR or LF of a client's in our fields",
        Shown(&["site_files::a_split_attempt_in_a_redirect_adds_no_field", "http_semantics::no_redirect_leads_elsewhere"])),
    Row("11.2", Should, "messages that two servers might read differently are refused",
        Shown(&["http_smuggling::what_only_looks_like_transfer_encoding_is_refused",
            "http_smuggling::content_length_beside_transfer_encoding_is_refused"])),
    Row("C.2.2", Must, "no persistence for HTTP/1.0 behind the client's back",
        Shown(&["http_framing::connections_persist_by_version_and_wish"])),
    Row("3.2.2", Must, "a client sends Host with absolute-form too", NotApplicable(CLIENT)),
    Row("6.1", Must, "forward Transfer-Encoding only to who understands it", NotApplicable(PROXY)),
];

/// The text of the file that a test is named in, and of the tests that stand beside it.
fn source_of(place: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = if place.contains('/') { "src" } else { "tests" };
    let path = top.join(folder).join(format!("{place}.rs"));
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    source + &fs::read_to_string(path.with_extension("").join("tests.rs")).unwrap_or_default()
}

/// Whether the source has a test of this name: a function with `#[test]` above it, or one for every engine.
fn has_test(source: &str, name: &str) -> bool {
    let mut before = "";
    source.lines().any(|line| {
        let line = line.trim();
        let above = std::mem::replace(&mut before, line);
        let Some(signature) = line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)) else { return false };
        (signature.starts_with("()") && above == "#[test]") || signature.starts_with("(engine: ")
    })
}

#[test]
fn every_requirement_names_its_tests_or_its_reason() {
    let mut sources: BTreeMap<&str, String> = BTreeMap::new();
    for (rfc, rows) in [(9110, SEMANTICS), (9111, CACHING), (9112, MESSAGES)] {
        let mut counts = BTreeMap::new();
        for Row(section, level, text, proof) in rows {
            let row = format!("RFC {rfc}, section {section}: {text}");
            let kind = match proof {
                Shown(tests) => {
                    assert!(!tests.is_empty(), "no test: {row}");
                    for test in *tests {
                        let (place, name) = test.split_once("::").unwrap_or_else(|| panic!("{test}: {row}"));
                        let source = sources.entry(place).or_insert_with(|| source_of(place));
                        assert!(has_test(source, name), "there is no test {test}: {row}");
                    }
                    "shown"
                }
                NotApplicable(reason) => {
                    assert!(reason.len() > 10, "no reason: {row}");
                    "not applicable"
                }
                Declined(reason) => {
                    assert!(reason.len() > 10 && *level != Must, "a MUST is not ours to decline: {row}");
                    "declined"
                }
            };
            *counts.entry((*level, kind)).or_insert(0) += 1;
        }
        for ((level, kind), count) in &counts {
            println!("RFC {rfc}: {count} {level:?} {kind}");
        }
        let musts = counts.get(&(Must, "shown")).copied().unwrap_or_default();
        assert!(rfc == 9111 || musts > 40, "RFC {rfc}: only {musts}");
    }
}

#[test]
fn no_requirement_stands_twice() {
    for rows in [SEMANTICS, CACHING, MESSAGES] {
        let mut seen: Vec<(&str, &str)> = rows.iter().map(|Row(section, _, text, _)| (*section, *text)).collect();
        seen.sort_unstable();
        for pair in seen.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
    }
}

// What no other test happens to show.

mod common;

use common::{Engine, Server, Setup, TempDir, exchange, on_every_engine};

fn site(engine: Engine) -> (Server, TempDir) {
    let folder = TempDir::new();
    folder.write("a.txt", "a");
    (Setup::on(engine).arg(folder.path()).start(), folder)
}

on_every_engine! {
    fn a_target_of_8000_bytes_is_within_the_default_limit(engine: Engine) {
        let (server, _folder) = site(engine);
        let query = "q".repeat(8000 - "/a.txt?".len());
        assert_eq!(exchange(&server, format!("GET /a.txt?{query} HTTP/1.1\r\nHost: x\r\n\r\n")).status, 200);
    }

    fn a_long_method_is_501(engine: Engine) {
        let (server, _folder) = site(engine);
        for length in [20, 200, 2000] {
            let method = "M".repeat(length);
            assert_eq!(exchange(&server, format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n")).status, 501, "{length}");
        }
    }

    fn no_answer_has_an_age(engine: Engine) {
        let (server, _folder) = site(engine);
        for target in ["/a.txt", "/missing", "/echo/x", "/"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n\r\n");
            let answer = exchange(&server, request);
            for name in ["Age", "Pragma", "Warning", "Expires", "Cache-Control"] {
                assert!(answer.values(name).is_empty(), "{target}: {answer:?}");
            }
        }
    }
}

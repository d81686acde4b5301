//! Self-tests in the booted kernel (DESIGN §5, tier T4): the laws on the real MMU.
//!
//! They are part of the checked image only. Each test is announced before it runs, so that a hang
//! or a crash has a name.

mod asids;
mod blocks;
mod contpte;
mod frames;
mod kernel_space;
mod laws;
mod loaded;
mod protect;
mod stale;
mod storm;
mod user_space;
mod walks;

use core::fmt;

use crate::bootargs::{self, SelfTest};
use crate::control;

/// What a test answers: nothing, or what is wrong.
type Outcome = Result<(), Failure>;

/// What is wrong, and with which number, if one says more.
#[derive(Debug)]
struct Failure {
    what: &'static str,
    value: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x})", self.what, self.value)
    }
}

/// `Ok` if `holds`.
fn check(holds: bool, what: &'static str, value: u64) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Failure { what, value })
    }
}

struct Test {
    name: &'static str,
    run: fn() -> Outcome,
}

/// Makes the list of tests from function names, so that a test cannot be listed under another's.
macro_rules! tests {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        &[$(Test { name: stringify!($name), run: $module::$name }),+]
    };
}

static TESTS: &[Test] = tests![
    frames::blocks_of_every_order_come_and_go_without_loss,
    frames::fresh_frames_are_zero_even_after_use,
    frames::slab_pages_go_back_when_their_last_object_does,
    frames::copies_of_every_length_and_alignment_are_exact,
    kernel_space::every_table_under_every_root_is_constructed,
    kernel_space::no_mapping_is_both_writable_and_executable,
    kernel_space::text_and_constants_cannot_be_written,
    kernel_space::data_and_direct_map_cannot_be_executed,
    kernel_space::kernel_stacks_lie_between_unmapped_pages,
    kernel_space::user_mode_cannot_reach_the_kernel,
    kernel_space::a_mapping_comes_and_goes_for_the_mmu_too,
    kernel_space::held_memory_comes_online_in_constructed_tables,
    protect::no_live_table_can_be_written_past_the_window,
    protect::other_memory_is_written_as_ever,
    protect::the_window_shows_tables_while_it_is_open,
    protect::an_exception_closes_the_window,
    protect::changes_close_their_windows,
    protect::a_table_of_changes_is_one_window,
    protect::chunks_come_and_go_with_their_protection,
    user_space::a_fault_maps_what_the_mmu_then_finds,
    user_space::taking_a_right_away_reaches_the_mmu,
    user_space::unmapping_reaches_the_mmu_and_frees_after_grace,
    user_space::access_flag_and_dirty_state_are_kept,
    user_space::kernel_copies_respect_protection,
    user_space::two_spaces_do_not_see_each_other,
    user_space::an_address_space_ends_without_loss,
    asids::more_spaces_than_identifiers_keep_their_own_pages,
    asids::what_is_unmapped_while_another_space_runs_is_gone,
    asids::a_grown_space_is_loaded_with_its_levels,
    laws::a_page_of_any_protection_keeps_its_states_apart,
    laws::a_block_of_any_protection_is_a_leaf_of_its_level,
    contpte::a_folio_is_sixteen_pages_that_follow_each_other,
    contpte::what_hardware_records_in_one_entry_is_the_blocks,
    contpte::each_page_of_a_block_faults_once_at_most,
    contpte::a_part_that_changes_unfolds_and_the_whole_folds_again,
    contpte::a_hole_in_a_block_is_a_hole_of_one_page,
    stale::no_write_after_the_right_is_gone,
    stale::no_access_after_an_unmap,
    stale::an_unfold_leaves_no_old_translation,
    stale::a_new_table_is_found_where_an_old_one_was,
    stale::moved_pages_leave_their_old_place,
    blocks::a_block_is_cut_by_a_partial_change_and_collapses_again,
    blocks::no_access_through_a_block_that_is_gone,
    blocks::a_gibibyte_is_cut_down_to_a_page,
    walks::a_walk_over_a_boundary_of_the_root_sees_the_next_table,
    walks::a_space_of_any_number_of_levels_is_walked_by_the_mmu,
    walks::a_walk_of_mixed_tables_agrees_with_the_mmu,
    walks::copies_over_a_boundary_reach_both_pages,
    contpte::blocks_are_repainted_as_the_command_line_says,
    storm::walkers_see_a_block_whole_while_it_is_folded_and_unfolded,
];

/// Called by every CPU that has nothing to do: a test may want its help.
#[inline]
pub fn help() {
    storm::help();
}

/// Runs the tests that `tessera.selftest=` names (`1`: all of them); the number of failures.
pub fn run() -> u32 {
    let wanted = bootargs::get().selftest;
    let (mut passed, mut failed) = (0, 0);
    for test in TESTS {
        if matches!(wanted, SelfTest::Named(name) if !test.name.contains(name)) {
            continue;
        }
        control::line(format_args!("test-begin name={}", test.name));
        match (test.run)() {
            Ok(()) => {
                passed += 1;
                control::line(format_args!("test-end name={} result=pass", test.name));
            }
            Err(failure) => {
                failed += 1;
                let name = test.name;
                control::line(format_args!(
                    "test-end name={name} result=fail text={failure}"
                ));
                log::error!("self-test {name}: {failure}");
            }
        }
    }
    control::line(format_args!("tests-done passed={passed} failed={failed}"));
    failed
}

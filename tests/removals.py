"""Remove each protection from a fault, one at a time: the test of that fault has to fail.

    python -m tests.removals            all of them, two at a time; takes half an hour or more
    python -m tests.removals "disk full" damaged

Each removal happens in a copy of the project. For each, the script prints whether the test noticed and the test's
first complaint; the exit code is 1 if a test did not notice.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SIDE_BY_SIDE = 2
LEFT_OUT = shutil.ignore_patterns(
    ".venv", ".uv", ".prefect", ".git", "__pycache__", ".*_cache", "docs", "experiments", "cache"
)


@dataclass(frozen=True)
class Removal:
    """A text that protects from a fault, the file that holds it, its replacement, and the test that has to notice."""

    fault: str
    file: str
    old: str
    new: str
    test: str

    def apply(self, project: Path) -> None:
        """Change the file; raise ValueError unless it holds the text exactly once."""
        text = (project / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {self.old!r} {text.count(self.old)} times")
        (project / self.file).write_text(text.replace(self.old, self.new))


LAYOUT = "tests/dataset/listing/test_layout.py::test_"
MINIATURES = "tests/dataset/test_miniatures.py::test_"
TAR = "tests/images/archives/test_tar_archive.py::test_"
CLUSTERS = "tests/dataset/test_clusters.py::test_"
FINDINGS = "tests/test_several_findings.py::test_"
LABELS = "tests/dataset/listing/test_labels.py::test_"
FOREIGN = "tests/test_foreign_names.py::test_"
TRAIN = "tests/flows/test_train_cv.py::test_"
CROSS = "tests/test_pipeline.py::test_"
SERVICES = "tests/deployments/test_services.py::test_"
FEEDBACK = "tests/flows/test_feedback.py::test_"
WORKERS = "tests/tasks/test_workers.py::test_"
RAY = "tests/tasks/test_ray_cluster.py::test_"
ARRAYS = "tests/storage/test_image_arrays.py::test_"
FOLD = "tests/training/test_trainer.py::test_"
LOOP = "tests/training/fold/test_loop.py::test_"
STORE = "tests/storage/test_files.py::test_"
VERIFIED = "tests/storage/test_verified.py::test_"
BUCKET = "tests/storage/test_object_store.py::test_"
ENDPOINT = "tests/endpoint/test_"
RECEIVING = "tests/receiving/test_"
DICOM_RESULTS = "tests/dicom_results/test_"
UP = SERVICES + "up_starts_every_service_once_on_the_loopback_address_alone"
RECALIBRATION = "tests/recalibration/test_recalibrate.py::test_"
LABELLED = "tests/recalibration/test_labelled_images.py::test_"
NOVELTY = "tests/serving/test_novelty.py::test_"
CONFORMAL = "tests/metrics/test_conformal.py::test_"
REFERRAL = "tests/test_referral.py::test_"
PUSH = "tests/sharing/test_push.py::test_"
PULL = "tests/sharing/test_pull.py::test_"
REFUSED = PULL + "what_is_damaged_or_strange_is_refused_and_leaves_nothing"
INTEGERS = "tests/export/int8/test_export.py::test_"
ONCE = "tests/serving/test_exactly_once.py::test_"
SAME_COMMAND = TRAIN + "the_same_command_finishes_what_was_ended_and_redoes_no_finished_fold"
KILLED_WORKER = WORKERS + "a_killed_workers_fold_is_marked_crashed_told_and_taken_up_while_a_longer_healthy_run_goes_on"

JPEG = "tests/images/test_jpeg.py::test_"
PNG = "tests/images/test_png.py::test_"
FRAMES = "tests/images/dicom/test_decoders.py::test_"

REMOVALS = (
    Removal(
        "a fold's process is killed: not tried again",
        "tasks/training.py",
        "retries=len(RETRY_DELAYS_S)",
        "retries=0",
        TRAIN + "a_killed_fold_process_fails_its_own_task_and_is_resumed_by_the_retry",
    ),
    Removal(
        "a large object is read in parts, of two versions",
        "cxr/storage/object_store.py",
        ", max_concurrency=1)",
        ")",
        BUCKET + "a_large_object_is_read_in_one_request_so_that_no_two_versions_mix",
    ),
    Removal(
        "a fold's process is killed: begins anew",
        "cxr/training/fold/loop.py",
        "if not verified.exists(folder.checkpoint):",
        "if True:",
        TRAIN + "a_killed_fold_process_fails_its_own_task_and_is_resumed_by_the_retry",
    ),
    Removal(
        "a fold is resumed without its generator",
        "cxr/training/fold/loop.py",
        'self.generator.set_state(state["generator"])',
        "pass",
        LOOP + "a_fold_resumed_after_any_epoch_ends_with_the_same_weights_bit_for_bit",
    ),
    Removal(
        "the flow is killed: its folds go on unseen",
        "cxr/training/supervision.py",
        "threading.Thread(target=_end_with_parent, daemon=True).start()",
        "pass",
        SAME_COMMAND + "[the flow is killed]",
    ),
    Removal(
        "the flow is killed: a finished fold is trained again",
        "cxr/training/trainer.py",
        "if run.is_complete(fold):",
        "if False:",
        FOLD + "a_finished_fold_is_not_trained_again_and_a_forgotten_one_is",
    ),
    Removal(
        "SIGTERM: the batch is lost",
        "cxr/training/supervision.py",
        "self._is_deferred = True",
        "self._is_deferred = False",
        SAME_COMMAND + "[the flow is terminated]",
    ),
    Removal(
        "SIGTERM: the folds are killed and not asked",
        "cxr/cli/terminal.py",
        "        process.terminate()\n",
        "        process.kill()\n",
        CROSS + "the_plain_core_stopped_killed_and_started_twice_gives_the_flows_tables",
    ),
    Removal(
        "Ctrl-C: left to Prefect",
        "cxr/cli/terminal.py",
        "        signal.signal(number, _stop)\n",
        "        pass\n",
        TRAIN + "ctrl_c_ends_a_run_at_once_with_all_its_processes_and_the_same_command_goes_on",
    ),
    Removal(
        "a fold always fails: the others are not waited for",
        "cxr/training/scheduling.py",
        "outcomes = [failure_of(pending) for pending in started]",
        "outcomes = [failure_of(started[0])]\n        if outcomes[0]: raise outcomes[0]",
        CROSS + "a_fold_that_fails_leaves_the_others_to_finish_and_is_named",
    ),
    Removal(
        "two commands on one run: no lock",
        "cxr/storage/local_files.py",
        "with FileLock(lock_file, timeout=patience_s):",
        "with disk_full_as_error(lock_file):",
        CROSS + "the_plain_core_stopped_killed_and_started_twice_gives_the_flows_tables",
    ),
    Removal(
        "two commands on one run in a bucket: no lock",
        "cxr/storage/object_store.py",
        'if self._write(IfNoneMatch="*"):',
        "if self._write():",
        BUCKET + "exactly_one_of_several_processes_gets_a_lock_and_the_others_learn_who_holds_it",
    ),
    Removal(
        "disk full: no sentence",
        "cxr/storage/local_files.py",
        "if error.errno not in DISK_FULL:",
        "if True:",
        CROSS + "a_run_that_finds_the_disk_full_says_so_and_the_same_command_ends_with_the_same_tables",
    ),
    Removal(
        "disk full: half a file stays",
        "cxr/storage/local_files.py",
        "            temporary.unlink(missing_ok=True)\n",
        "            pass\n",
        LOOP + "a_checkpoint_that_finds_the_disk_full_is_reported_and_leaves_nothing_half_written",
    ),
    Removal(
        "disk full: numpy does not notice",
        "cxr/storage/image_arrays.py",
        "file.write(stacked.data)",
        "stacked.tofile(file)",
        ARRAYS + "a_full_disk_is_reported_and_leaves_the_cache_as_it_was",
    ),
    Removal(
        "a model's folder is copied: every image is scored again",
        "cxr/serving/package.py",
        "        require_own_name(folder, facts)\n        package",
        "        package",
        ONCE + "a_copied_model_scores_nothing_and_the_original_goes_on",
    ),
    Removal(
        "another package takes a version's name: its scores pass for the first one's",
        "cxr/serving/scoring/scoring_runs.py",
        "        scores.claim(folder, package)\n",
        "",
        ONCE + "two_packages_of_one_name_and_version_do_not_share_scores",
    ),
    Removal(
        "a file is replaced in place with its time kept: not scored",
        "cxr/images/inbox.py",
        " {facts.st_ctime_ns} {facts.st_ino}",
        "",
        ONCE + "a_file_that_is_replaced_in_place_with_its_size_and_time_kept_is_scored",
    ),
    Removal(
        "a batch leaves the inbox after a kill: its scores stay staged",
        "cxr/serving/scoring/scoring_runs.py",
        "(gone | listed)",
        "listed",
        ONCE + "a_batch_that_left_the_inbox_after_a_kill_is_published_all_the_same",
    ),
    Removal(
        "a disk fails in a scoring run: a traceback",
        "cxr/serving/scoring/scores.py",
        "        raise DiskError.of(error, folder.path) from error\n",
        "        raise\n",
        ONCE + "a_limit_of_file_sizes_ends_the_command_with_code_2_and_a_record",
    ),
    Removal(
        "a batch is published before it is on record",
        "cxr/serving/scoring/outcome.py",
        "        write_record(run, outcomes)\n        scores.settle",
        "        scores.settle",
        "tests/serving/scoring/test_outcome.py::test_a_batch_is_on_record_before_it_is_published",
    ),
    Removal(
        "a disk fails while the record of a scoring run is begun: the record does not say how the run ended",
        "cxr/serving/scoring/outcome.py",
        "    try:\n        write_record(run, outcomes)\n",
        "    write_record(run, outcomes)\n    try:\n",
        ONCE + "an_error_of_the_disk_while_the_record_is_begun_is_recorded",
    ),
    Removal(
        "the clock is set back: a scoring run takes another's name",
        "cxr/serving/scoring/scoring_runs.py",
        "        moment += timedelta(microseconds=1)\n",
        "        break\n",
        "tests/serving/scoring/test_scoring_runs.py::test_no_scoring_run_takes_the_name_of_another_where_the_clock_was_set_back",
    ),
    Removal(
        "out of memory: no smaller parts",
        "cxr/training/fold/loop.py",
        "if not is_out_of_memory(error) or self.micro_batch == 1:",
        "if True:",
        LOOP + "out_of_memory_halves_the_parts_and_is_logged",
    ),
    Removal(
        "out of memory: no sentence where nothing helps",
        "cxr/training/fold/memory.py",
        "        if not is_out_of_memory(error):\n            raise\n",
        "        raise\n",
        FOLD + "a_batch_that_memory_is_too_small_for_goes_through_in_parts_and_a_sentence_tells_where_none_does",
    ),
    Removal(
        "damaged cache: not noticed",
        "cxr/storage/image_arrays.py",
        "return zlib.crc32(self.array.data) == self.checksum",
        "return True",
        ARRAYS + "one_changed_byte_of_an_array_is_noticed_and_the_array_is_replaced",
    ),
    Removal(
        "damaged table: not noticed",
        "cxr/storage/files.py",
        "page_checksum_verification=True",
        "page_checksum_verification=False",
        STORE + "changed_bytes_of_a_table_and_half_a_json_file_are_reported",
    ),
    Removal(
        "damaged weights: not noticed",
        "cxr/storage/verified.py",
        "if digest not in sums[path.name]:",
        "if False:",
        "tests/training/test_predictions.py::test_damaged_weights_are_told_with_the_way_out",
    ),
    Removal(
        "a file of a run that is not recorded: used",
        "cxr/storage/verified.py",
        "    if path.name not in sums:\n        return f",
        "    if path.name not in sums:\n        return None\n        return f",
        VERIFIED + "a_damaged_file_is_named_with_what_is_wrong_and_how_it_is_made_again",
    ),
    Removal(
        "a whole folder of another run: used",
        "cxr/storage/verified.py",
        "if _ties(sums) == _tie(path.parent) else",
        "if True else",
        VERIFIED + "a_folder_within_a_run_is_tied_to_the_run",
    ),
    Removal(
        "a damaged file: a traceback on the page",
        "app/main.py",
        "except CxrError as error:",
        "except ZeroDivisionError as error:",
        "tests/cli/test_damage.py::test_a_view_names_each_damaged_file_that_it_reads",
    ),
    Removal(
        "a deleted file of a run: passed over",
        "cxr/storage/verified.py",
        "return _is_expected(recorded(path.parent).get(path.name)) or path.exists()",
        "return path.exists()",
        VERIFIED + "a_file_that_was_deleted_is_still_expected_and_one_that_was_removed_is_not",
    ),
    Removal(
        "killed between a file and its hash: the file is refused",
        "cxr/storage/verified.py",
        "_record(path.parent, {path.name: tuple(dict.fromkeys((*before, digest)))})",
        "pass",
        VERIFIED + "a_kill_before_any_step_leaves_the_file_as_it_was_or_as_it_shall_be",
    ),
    Removal(
        "a file is replaced while it is read: refused",
        "cxr/storage/verified.py",
        "if record == before:",
        "if True:",
        VERIFIED + "a_reader_beside_a_writer_reads_what_was_written_and_never_complains",
    ),
    Removal(
        "config.json contradicts itself: used",
        "cxr/training/run.py",
        "if record[name] != value)",
        "if False)",
        "tests/training/test_run.py::test_a_config_that_contradicts_itself_is_refused",
    ),
    Removal(
        "the champion's file leads elsewhere: followed",
        "cxr/serving/registry.py",
        "if not (version.isascii() and version.isdecimal()):",
        "if False:",
        "tests/serving/test_registry.py::test_a_champion_that_is_no_number_is_refused_and_replaced_by_force",
    ),
    Removal(
        "a package without sense: used",
        "cxr/serving/package.py",
        "fault = _nonsense(package)",
        "fault = None",
        "tests/serving/test_package.py::test_a_package_without_sense_is_refused_though_its_sums_are_right",
    ),
    Removal(
        "weights that are no numbers: scored",
        "cxr/serving/package.py",
        "if not np.isfinite(logits).all():",
        "if False:",
        "tests/serving/test_package.py::test_probabilities_that_are_no_numbers_are_refused",
    ),
    Removal(
        "an emptied key for patient ids: used",
        "cxr/images/dicom/patient.py",
        "if len(key) != KEY_BYTES:",
        "if False:",
        "tests/images/dicom/test_patient.py::test_an_emptied_key_is_refused_and_one_that_others_can_read_is_logged",
    ),
    Removal(
        "an image grows after it was listed: read whole",
        "cxr/images/source.py",
        "if len(data) > MAX_IMAGE_BYTES:",
        "if False:",
        "tests/images/test_source.py::test_a_file_that_has_grown_past_the_limit_is_not_read_whole",
    ),
    Removal(
        "no folder for Prefect: tracebacks without an end",
        "flows/prefect_session.py",
        "    _require_home()\n",
        "",
        "tests/flows/test_prefect_session.py::test_without_a_folder_for_prefects_files_the_way_out_is_named",
    ),
    Removal(
        "a Ray node is killed: the fold is not started elsewhere",
        "tasks/ray_cluster.py",
        '"max_retries": TRIES_AFTER_A_LOST_NODE',
        '"max_retries": 0',
        RAY + "a_node_killed_amid_a_fold_costs_nothing_and_the_tables_equal_the_undisturbed_ones",
    ),
    Removal(
        "a Ray node is killed: its files are not read elsewhere",
        "tasks/ray_scoring.py",
        "max_retries=TRIES_AFTER_A_LOST_NODE",
        "max_retries=0",
        RAY + "a_batch_scored_with_a_node_killed_in_each_stage_has_the_rows_of_one_process_each_once",
    ),
    Removal(
        "a Ray node is killed: its images are not predicted elsewhere",
        "tasks/ray_networks.py",
        "if question.n_tries > TRIES_AFTER_A_LOST_NODE:",
        "if True:",
        RAY + "a_batch_scored_with_a_node_killed_in_each_stage_has_the_rows_of_one_process_each_once",
    ),
    Removal(
        "an image changed between a Ray node's reading and the network: it is predicted under the old name",
        "tasks/ray_stages.py",
        "squares[r.image_id]) for r in readings if r.image_id in squares]",
        "next(iter(squares.values()))) for r in readings]",
        "tests/tasks/test_ray_stages.py::"
        "test_an_image_that_changed_before_it_was_read_again_is_not_predicted_and_gets_no_row",
    ),
    Removal(
        "an object was replaced since it was listed: its bytes are taken for those listed",
        "cxr/images/inbox.py",
        "if len(data) != found.n_bytes or found.changed_ns != arrival.changed_ns or not is_as_listed:",
        "if False:",
        "tests/images/test_batches.py::test_an_object_that_was_replaced_or_removed_since_it_was_listed_is_not_read",
    ),
    Removal(
        "the server is killed amid a run: the run does not wait for it",
        "deployments/services.py",
        '"DO_NOT_TRACK": "1",',
        '"DO_NOT_TRACK": "1", "PREFECT_CLIENT_MAX_RETRIES": "0",',
        "tests/deployments/test_server.py::test_a_run_outlives_the_server_that_is_killed_and_started_again",
    ),
    Removal(
        "the server stays away: no sentence",
        "flows/prefect_session.py",
        "except TransportError as error:",
        "except ZeroDivisionError as error:",
        "tests/deployments/test_server.py::test_a_run_whose_server_stays_away_says_so_in_one_sentence_and_the_same_command_finishes_it",
    ),
    Removal(
        "a command whose server is gone waits for minutes for the events that it still has to send",
        "flows/prefect_session.py",
        "            _give_up_events()\n",
        "",
        "tests/deployments/test_server.py::test_a_run_whose_server_stays_away_says_so_in_one_sentence_and_the_same_command_finishes_it",
    ),
    Removal(
        "the server is absent at the start: found out late",
        "flows/prefect_session.py",
        "if address is not None and not answers(address, patience_s):",
        "if False:",
        WORKERS + "a_server_that_is_absent_is_told_in_one_sentence",
    ),
    Removal(
        "the server comes up late: `cxr deploy --wait` does not wait",
        "flows/prefect_session.py",
        "if address is not None and not answers(address, patience_s):",
        "if address is not None and not answers(address):",
        "tests/flows/test_prefect_session.py::test_a_named_server_that_is_not_up_yet_is_waited_for",
    ),
    Removal(
        "a worker is killed with its run: never marked",
        "deployments/server.py",
        "    _put(give_up_silent_runs(silent_for_s))\n",
        "",
        KILLED_WORKER,
    ),
    Removal(
        "a worker is killed with its run: a healthy run is marked, too",
        "deployments/services.py",
        '"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"',
        '"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180"',
        WORKERS + "a_dead_run_is_marked_within_three_minutes_and_a_live_one_may_miss_three_signs",
    ),
    Removal(
        "a scoring run is held: nobody is told",
        "deployments/server.py",
        '_events("Failed", "Crashed", "Held", "SurelyBelow")',
        '_events("Failed", "Crashed", "SurelyBelow")',
        "tests/deployments/test_postgresql.py",
    ),
    Removal(
        "a model is surely below its promise: it is not trained again, although that was asked for",
        "deployments/services.py",
        "    if retrain:\n",
        "    if False:\n",
        FEEDBACK + "a_model_that_is_surely_below_its_promise_is_trained_again_once_for_the_same_labels",
    ),
    Removal(
        "a run of feedback is repeated with the same labels: each of them starts a retraining",
        "tasks/retraining.py",
        '        idempotency_key=f"retrain {model.name} {version} {ledger.digest(scores.feedback(model.name))}",\n',
        "",
        FEEDBACK + "a_model_that_is_surely_below_its_promise_is_trained_again_once_for_the_same_labels",
    ),
    Removal(
        "cxr deploy is typed again: models are not trained again any more",
        "deployments/services.py",
        "server.starts_retrainings() if retrain is None else retrain",
        "bool(retrain)",
        FEEDBACK + "whether_models_are_trained_again_stays_as_it_was_until_it_is_asked_for_again",
    ),
    Removal(
        "server and worker are killed: up takes their records for them",
        "deployments/services.py",
        "            if service.process:\n",
        "            if service.record.exists():\n",
        SERVICES + "a_nightly_schedule_outlives_the_server_and_the_worker_when_both_are_killed",
    ),
    Removal(
        "up typed twice: starts all twice",
        "deployments/services.py",
        "            if service.process:\n",
        "            if False:\n",
        UP,
    ),
    Removal(
        "down amid a run: runs are not asked first",
        "deployments/services.py",
        "        end(runs, runs)\n",
        "",
        SERVICES + "down_amid_a_training_leaves_no_process_and_no_batch_is_lost",
    ),
    Removal(
        "down amid a run: its folds are not asked to stop",
        "cxr/training/scheduling.py",
        "        supervision.stop_children()\n",
        "",
        SERVICES + "down_amid_a_training_leaves_no_process_and_no_batch_is_lost",
    ),
    Removal(
        "stop: a fold that was asked to stop counts as killed",
        "cxr/training/supervision.py",
        "        _stopped.add(child)\n",
        "",
        CROSS + "the_plain_core_stopped_killed_and_started_twice_gives_the_flows_tables",
    ),
    Removal(
        "down: what a killed worker left goes on",
        "deployments/services.py",
        "        end(left, left)\n",
        "",
        SERVICES + "down_amid_a_training_leaves_no_process_and_no_batch_is_lost",
    ),
    Removal(
        "the server listens to everybody", "deployments/services.py", '"--host", "127.0.0.1"', '"--host", "0.0.0.0"', UP
    ),
    Removal(
        "DICOM results: what is half-written has its name",
        "cxr/storage/dicom_folder.py",
        "files.deliver(self.instance(uid), data, through=self.work)",
        "self.instance(uid).write_bytes(data)",
        DICOM_RESULTS
        + "writing.py::test_killed_amid_a_write_it_leaves_whole_instances_and_the_next_run_makes_the_same",
    ),
    Removal(
        "DICOM results: a file that is a pipe by now is passed over in silence",
        "cxr/dicom_results/writing.py",
        "    if arrival.refused:\n        raise arrival.refused\n",
        "",
        "tests/dicom_results/test_writing.py::"
        "test_a_published_image_whose_file_is_a_pipe_now_is_named_and_nothing_waits_for_it",
    ),
    Removal(
        "DICOM results: an image gets another UID each time",
        "cxr/dicom_results/identifiers.py",
        "uuid.uuid5(NAMESPACE, chr(0).join(names))",
        "uuid.uuid4()",
        DICOM_RESULTS + "writing.py::test_what_is_deleted_is_made_again_byte_for_byte",
    ),
    Removal(
        "DICOM results: another model of the name gives the same UIDs",
        "cxr/dicom_results/identifiers.py",
        "derive_uid(kind, image_id, package_hash)",
        "derive_uid(kind, image_id)",
        DICOM_RESULTS + "identifiers.py::test_the_same_image_and_package_have_the_same_uids_and_others_have_others",
    ),
    Removal(
        "DICOM results: they are dated by the clock",
        "cxr/dicom_results/writing.py",
        "    _date(instance, moment)\n",
        "",
        DICOM_RESULTS + "report.py::test_a_report_is_dated_by_its_row_in_the_time_zone_of_the_image",
    ),
    Removal(
        "DICOM results: a file that became another is reported with the old row",
        "cxr/dicom_results/writing.py",
        "if image_id in of_path and",
        "image_id = next(iter(of_path))\n            if",
        DICOM_RESULTS + "writing.py::test_a_file_that_became_another_since_gets_no_report_of_the_old_row",
    ),
    Removal(
        "DICOM results: a library sees whose image it is",
        "cxr/dicom_results/source.py",
        "        stand_in.PatientID = None\n",
        '        stand_in.PatientID = self.dataset["PatientID"].value\n',
        DICOM_RESULTS + "source.py::test_libraries_see_whose_image_it_is_nowhere",
    ),
    Removal(
        "DICOM results: a name is written that was not understood",
        "cxr/dicom_results/source.py",
        "if UNDECODABLE in str(element.value):",
        "if False:",
        DICOM_RESULTS + "source.py::test_a_name_that_its_character_set_cannot_decode_is_refused_rather_than_changed",
    ),
    Removal(
        "DICOM results: an image of nobody gets a report",
        "cxr/dicom_results/source.py",
        'if not str(dataset.get("PatientID") or "").strip():',
        "if False:",
        DICOM_RESULTS + "source.py::test_an_image_without_a_place_for_results_is_refused_without_quoting_a_value",
    ),
    Removal(
        "DICOM results: they lie in the inbox",
        "cxr/dicom_results/results.py",
        "if folder.path.is_relative_to(other):",
        "if False:",
        DICOM_RESULTS + "results.py::test_where_other_files_are_no_results_are_written",
    ),
    Removal(
        "DICOM results: what was sent is sent again",
        "cxr/dicom_results/sending.py",
        "if path.stem not in confirmed",
        "if True",
        DICOM_RESULTS + "sending.py::test_each_instance_is_sent_once_to_each_node",
    ),
    Removal(
        "DICOM results: what a node refused counts as sent",
        "cxr/dicom_results/sending.py",
        "if status is not None and (status == 0 or status in WARNINGS):",
        "if status is not None:",
        DICOM_RESULTS + "sending.py::test_a_warning_confirms_and_a_refusal_is_said_and_sent_again",
    ),
    Removal(
        "receiving: what is half-written lies in a batch",
        "cxr/receiving/delivery.py",
        "through=self._receiving",
        "through=batch",
        RECEIVING
        + "process.py::test_killed_amid_a_write_it_leaves_nothing_half_in_the_inbox_and_takes_the_rest_when_it_is_back",
    ),
    Removal(
        "receiving: what is on its way is a batch",
        "cxr/images/inbox.py",
        "if e.name != RECEIVING",
        "if True",
        RECEIVING + "delivery.py::test_a_batch_is_a_day_or_a_study",
    ),
    Removal(
        "receiving: what a killed process left stays",
        "cxr/receiving/delivery.py",
        "            files.sweep(self._receiving)\n",
        "",
        RECEIVING + "delivery.py::test_what_a_killed_process_left_half_written_is_no_batch_and_is_removed",
    ),
    Removal(
        "receiving: what comes again replaces what is there",
        "cxr/receiving/delivery.py",
        "        if before is None:\n",
        "        if True:\n",
        RECEIVING + "delivery.py::test_what_comes_again_is_left_as_it_is_also_on_another_day",
    ),
    Removal(
        "receiving: a study is scored half",
        "cxr/receiving/delivery.py",
        "                _count_as_changed(batch)\n",
        "                pass\n",
        RECEIVING + "delivery.py::test_a_study_is_scored_once_nothing_of_it_has_come_for_a_while",
    ),
    Removal(
        "receiving: a UID names any file",
        "cxr/images/dicom/file.py",
        "UID_GRAMMAR.fullmatch(text) is not None",
        "True",
        RECEIVING + "instances.py::test_what_is_no_uid_names_no_file",
    ),
    Removal(
        "receiving: what is no radiograph is kept",
        "cxr/receiving/instances.py",
        "        require_radiograph(dataset)\n",
        "",
        RECEIVING + "instances.py::test_what_is_no_radiograph_is_refused",
    ),
    Removal(
        "receiving: another data set than the request says is kept",
        "cxr/receiving/instances.py",
        "if str(dataset.get(keyword)) != requested:",
        "if False:",
        RECEIVING + "instances.py::test_a_radiograph_is_what_its_request_says",
    ),
    Removal(
        "receiving: strangers may send",
        "cxr/receiving/node.py",
        "list(address.callers)",
        "[]",
        RECEIVING + "node.py::test_callers_that_are_not_named_are_refused",
    ),
    Removal(
        "receiving: other machines need no name",
        "cxr/receiving/node.py",
        "        if not (host.is_loopback or self.callers):\n",
        "        if False:\n",
        RECEIVING + "node.py::test_an_address_that_no_node_may_have_is_refused",
    ),
    Removal(
        "receiving: at the end the image under way is lost",
        "cxr/receiving/node.py",
        "while self._is_storing() and",
        "while False and",
        RECEIVING + "node.py::test_at_its_end_the_node_stores_the_image_under_way_confirms_it_and_takes_no_other",
    ),
    Removal(
        "receiving: a full disk is confirmed",
        "cxr/receiving/node.py",
        "return _refuse(event, OUT_OF_RESOURCES, f",
        "return STORED or (f",
        RECEIVING + "node.py::test_a_full_disk_is_answered_with_out_of_resources_and_nothing_is_kept",
    ),
    Removal(
        "receiving: a PDU of any length is read",
        "cxr/receiving/bounds.py",
        "        if nr_bytes > MAX_PDU_BYTES:\n",
        "        if False:\n",
        RECEIVING + "node.py::test_a_sender_that_floods_is_cut_off_and_others_are_served",
    ),
    Removal(
        "receiving: a data set of any length is kept",
        "cxr/receiving/bounds.py",
        "        if len(data) <= self._left:\n",
        "        if True:\n",
        RECEIVING + "node.py::test_a_data_set_above_the_limit_is_refused_and_the_next_is_stored",
    ),
    Removal(
        "receiving: requests pile up",
        "cxr/receiving/bounds.py",
        "    if association.dimse.msg_queue.qsize() > MOST_QUEUED:\n",
        "    if False:\n",
        RECEIVING + "node.py::test_a_sender_that_floods_is_cut_off_and_others_are_served",
    ),
    Removal(
        "receiving: a command has no end",
        "cxr/receiving/bounds.py",
        "    return message.encoded_command_set.tell() <= MAX_COMMAND_BYTES\n",
        "    return True\n",
        RECEIVING + "node.py::test_a_sender_that_floods_is_cut_off_and_others_are_served",
    ),
    Removal(
        "receiving: a connection may fall silent for ever",
        "cxr/receiving/bounds.py",
        "settimeout(SILENT_FOR_S)",
        "settimeout(None)",
        RECEIVING + "node.py::test_a_connection_that_falls_silent_amid_a_pdu_ends",
    ),
    Removal(
        "threads of the endpoint that wait keep the cores of a busy machine",
        "cxr/cli/verbs/services.py",
        '    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)',
        "    pass",
        ENDPOINT + "server.py::test_the_command_answers_many_clients_at_once_loses_none_keeps_nothing_and_ends",
    ),
    Removal(
        "the endpoint: other machines need no token",
        "cxr/endpoint/listener.py",
        "    if token is None and not _is_loopback(str(address[0])):\n",
        "    if False:\n",
        ENDPOINT + "listener.py::test_an_address_that_others_reach_needs_a_token",
    ),
    Removal(
        "the endpoint: while it waits for a model, others need no token",
        "cxr/endpoint/waiting.py",
        "Guard(_refuse_with(sentence), listener, lambda *_: None, [OPEN])",
        "_refuse_with(sentence)",
        ENDPOINT
        + "waiting.py::test_without_a_champion_the_endpoint_says_so_to_those_who_may_ask_and_goes_on_once_there_is_one",
    ),
    Removal(
        "the endpoint: its service ends for want of a model",
        "cxr/cli/verbs/services.py",
        "package = None if wait else load_champion(models, name)",
        "package = load_champion(models, name)",
        ENDPOINT + "waiting.py::test_the_command_waits_for_its_first_champion_answers_with_it_and_ends_at_a_signal",
    ),
    Removal(
        "the endpoint: a token is not looked at",
        "cxr/endpoint/guard.py",
        'hmac.compare_digest(given.encode(), f"Bearer {token}".encode())',
        "given",
        ENDPOINT + "guard.py::test_with_a_token_every_path_needs_it_but_health",
    ),
    Removal(
        "the endpoint: a foreign web page reaches it",
        "cxr/endpoint/guard.py",
        '        if not self._listener.answers_to(headers.get("host", "")):\n',
        "        if False:\n",
        ENDPOINT + "guard.py::test_without_a_token_no_foreign_host_name_is_answered",
    ),
    Removal(
        "the endpoint: a name reaches its log",
        "cxr/endpoint/guard.py",
        'path = scope["path"] if scope["path"] in self._paths else OTHER',
        'path = scope["path"]',
        ENDPOINT + "guard.py::test_a_line_of_the_log_tells_of_each_request_and_holds_no_name",
    ),
    Removal(
        "the endpoint: a large request is taken whole",
        "cxr/endpoint/intake.py",
        "        if n_bytes > self.limits.n_bytes:\n",
        "        if False:\n",
        ENDPOINT + "intake.py::test_a_request_of_more_bytes_is_refused_announced_or_not",
    ),
    Removal(
        "the endpoint: slow requests fill it",
        "cxr/endpoint/intake.py",
        "asyncio.timeout_at(deadline)",
        "asyncio.timeout_at(None)",
        ENDPOINT + "intake.py::test_a_request_that_arrives_too_slowly_is_refused",
    ),
    Removal(
        "weights with code in them: it is run",
        "cxr/network/resnet.py",
        'state = torch.load(file, map_location="cpu", weights_only=True)',
        'state = torch.load(file, map_location="cpu", weights_only=False)',
        "tests/test_security.py::test_weights_that_would_run_code_are_refused_in_one_sentence",
    ),
    Removal(
        "hidden folders are classes",
        "cxr/dataset/listing/file_kinds.py",
        "    if is_hidden(path):",
        "    if False:",
        LAYOUT + "hidden_and_system_folders_are_no_classes_and_are_left_aside_by_name",
    ),
    Removal(
        "two spellings are two classes",
        "cxr/dataset/listing/labels.py",
        "if alike := spelt_alike(place):",
        "if (alike := spelt_alike(place)) and not alike:",
        LABELS + "two_spellings_of_a_class_are_an_error_that_shows_both",
    ),
    Removal(
        "the positive class is asked for at the end",
        "cxr/dataset/listing/labels.py",
        "    if len(labels) > 1:",
        "    if not labels:",
        LABELS + "the_positive_class_is_asked_for_before_an_image_is_read",
    ),
    Removal(
        "zip members of one path vanish",
        "cxr/images/archives/zip_archive.py",
        "elif path in self._members:",
        "elif False:",
        "tests/images/archives/test_zip_archive.py::test_a_zip_with_two_members_for_one_path_is_refused_and_names_both",
    ),
    Removal(
        "a split is a class",
        "cxr/dataset/listing/class_folders.py",
        "    if split_of(folder):",
        "    if False:",
        MINIATURES + "folders_that_are_no_classes_are_refused_with_the_way_out_before_an_image_is_read",
    ),
    Removal(
        "a numbered folder is a class",
        "cxr/dataset/listing/class_folders.py",
        r'    if re.fullmatch(r"\d+", folder):',
        "    if False:",
        MINIATURES + "folders_that_are_no_classes_are_refused_with_the_way_out_before_an_image_is_read",
    ),
    Removal(
        "masks are images of a class",
        "cxr/dataset/listing/file_kinds.py",
        "    return MASK if is_in_mask_folder(path) else None",
        "    return None",
        MINIATURES + "masks_beside_images_are_left_aside_and_the_class_is_the_folder_above",
    ),
    Removal(
        "a class has fewer images than folds: found out at the end",
        "cxr/dataset/listing/labels.py",
        "        if n < config.folds:",
        "        if False:",
        "tests/dataset/listing/test_admission.py::test_what_names_alone_say_is_said_before_an_image_is_read",
    ),
    Removal(
        "an image that is newly read makes a begun run another",
        "cxr/dataset/listing/admission.py",
        "    if not (folder.has_begun and verified.exists(folder.left_aside)):",
        "    if True:",
        "tests/dataset/listing/test_admission.py::"
        "test_what_a_run_left_aside_when_it_began_stays_aside_though_it_is_read_by_now",
    ),
    Removal(
        "PatientID overrides a pattern that was given",
        "cxr/dataset/patients.py",
        "    if in_path is not None and pattern.is_given:",
        "    if False:",
        "tests/dataset/test_patients.py::test_a_pattern_that_was_given_comes_before_the_id_of_dicom",
    ),
    Removal(
        "patients of a known collection are not looked for",
        "cxr/dataset/patients.py",
        "max(found, key=lambda name: n_found[name])",
        "next(iter(found))",
        MINIATURES + "patients_of_known_collections_are_found_said_and_kept_in_one_fold",
    ),
    Removal(
        "nobody is known to have two images: not said",
        "cxr/dataset/known_patients.py",
        '"patients_remark": None if n_several else NOBODY,',
        '"patients_remark": None,',
        MINIATURES + "ids_of_dicom_that_are_all_different_are_said_and_give_way_to_a_pattern",
    ),
    Removal(
        "a tar's member leads out of it",
        "cxr/images/archives/tar_archive.py",
        'info.name.startswith("/") or ".." in info.name.split("/") or ',
        "",
        TAR + "a_tar_whose_member_leads_out_of_it_is_refused",
    ),
    Removal(
        "tar members of one path vanish",
        "cxr/images/archives/tar_archive.py",
        "    elif path in contents.members:",
        "    elif False:",
        TAR + "a_tar_with_two_members_for_one_path_is_refused",
    ),
    Removal(
        "a damaged header ends a tar",
        "cxr/images/archives/tar_archive.py",
        "    if guarded.last != bytes(HEADER_BYTES):",
        "    if False:",
        TAR + "a_damaged_header_ends_no_listing_in_silence",
    ),
    Removal(
        "what follows a tar's end is passed over",
        "cxr/images/archives/tar_archive.py",
        "        if rest.count(0) < len(rest):",
        "        if False:",
        TAR + "two_tars_that_were_joined_are_refused",
    ),
    Removal(
        "a tar's header asks for gigabytes: given",
        "cxr/images/archives/tar_archive.py",
        "        if n_bytes < 0 or self._left < 0:",
        "        if False:",
        TAR + "headers_that_ask_for_gigabytes_are_refused",
    ),
    Removal(
        "a gzip bomb is unpacked",
        "cxr/images/archives/gzip_index.py",
        "            if self._unpacking.offset > self._most:",
        "            if False:",
        TAR + "a_gzip_bomb_is_refused_before_it_is_unpacked_whole",
    ),
    Removal(
        "a system's folder is a batch",
        "cxr/images/inbox.py",
        "litter(Path(name) / path)",
        "litter(path)",
        "tests/images/test_inbox.py::test_thumbnails_and_older_copies_that_systems_keep_are_no_images",
    ),
    Removal(
        "ANONYMOUS is a patient",
        "cxr/images/dicom/patient.py",
        "    if _is_placeholder(patient_id):",
        "    if False:",
        "tests/images/dicom/test_patient.py::test_an_id_that_stands_for_nobody_is_a_placeholder",
    ),
    Removal(
        "an id that most images share is a patient",
        "cxr/dataset/patients.py",
        "if n >= least}",
        "if n < 0}",
        "tests/dataset/test_patients.py::test_an_id_that_most_images_share_is_nobodys",
    ),
    Removal(
        "files left aside are part of no verdict",
        "data_checks/left_aside.py",
        "mostly=1 - limit.left_aside_share",
        "mostly=0",
        "tests/data_checks/test_left_aside.py::test_files_left_aside_are_part_of_the_verdict",
    ),
    Removal(
        "an image in colour is decoded without a look at what is missing",
        "cxr/images/jpeg.py",
        'require_whole(data, "CMYK" if file.mode == "CMYK" else "GRAY")',
        "pass",
        JPEG + "missing_data_is_found",
    ),
    Removal(
        "a grey image with missing data is filled up",
        "cxr/images/jpeg.py",
        "if padding is None or not _is_padding(data, int(padding[1])):",
        "if False:",
        JPEG + "missing_data_is_found",
    ),
    Removal(
        "the scans of a JPEG are not counted",
        "cxr/images/jpeg_scans.py",
        "if n_scans > MAX_SCANS or n_scans * n_pixels > MAX_SCANNED_PIXELS:",
        "if False:",
        JPEG + "a_progressive_jpeg_of_two_thousand_scans_is_refused",
    ),
    Removal(
        "a scan that is missing as a whole is not missed",
        "cxr/images/jpeg.py",
        "    jpeg_scans.require_all(data)\n",
        "",
        "tests/images/test_jpeg_scans.py::test_a_progressive_image_without_its_last_scans_is_refused",
    ),
    Removal(
        "arithmetic coding, which may end anywhere, is read",
        "cxr/images/jpeg_scans.py",
        "ARITHMETIC = {0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}",
        "ARITHMETIC: set[int] = set()",
        "tests/images/test_jpeg_scans.py::test_arithmetic_coding_in_which_missing_data_cannot_be_found_is_refused",
    ),
    Removal(
        "a JPEG inside DICOM with missing data is filled up",
        "cxr/images/dicom/decoders.py",
        "    require_whole(frame, header)\n",
        "",
        FRAMES + "no_cut_of_a_jpeg_of_12_bits_is_read_as_something_else",
    ),
    Removal(
        "the scans of a JPEG inside DICOM are not counted",
        "cxr/images/dicom/frames.py",
        "    jpeg.require_quick(frame, header.rows * header.columns)\n",
        "",
        FRAMES + "a_progressive_jpeg_of_two_thousand_scans_is_refused_in_dicom_too",
    ),
    Removal(
        "the elements and items of a DICOM file are not counted",
        "cxr/images/dicom/limits.py",
        "if self.n_reads > MAX_READS:",
        "if False:",
        "tests/images/dicom/test_limits.py::test_a_file_of_very_many_parts_is_refused_soon",
    ),
    Removal(
        "a long value of DICOM is converted",
        "cxr/images/dicom/file.py",
        "    limits.require_short_values(body)\n",
        "",
        "tests/images/dicom/test_limits.py::test_a_file_of_very_many_parts_is_refused_soon",
    ),
    Removal(
        "Great Expectations' pages take names for HTML",
        "data_checks/suite.py",
        "json.dumps(_harmless(content))",
        "json.dumps(content)",
        "tests/data_checks/test_suite.py::test_great_expectations_pages_show_foreign_names_and_take_none_for_markup",
    ),
    Removal(
        "a folder's name is taken for a variable of Great Expectations",
        "data_checks/suite.py",
        '.replace("$", "\\\\$")',
        "",
        "tests/data_checks/test_suite.py::test_great_expectations_pages_are_written_into_a_folder_of_any_name",
    ),
    Removal(
        "what the system refuses is a traceback",
        "cxr/cli/terminal.py",
        "if not system_errors.is_explained(error):",
        "if True:",
        "tests/cli/test_terminal.py::test_a_command_ends_with_a_code_and_at_most_one_sentence",
    ),
    Removal(
        "the checksums of a PNG are not checked",
        "cxr/images/png.py",
        "    _require_whole(data, chunks)\n",
        "",
        PNG + "a_damaged_file_is_found_and_a_whole_one_is_read",
    ),
    Removal(
        "the chunks of a PNG are not counted",
        "cxr/images/png.py",
        "if len(chunks) > MAX_CHUNKS:",
        "if False:",
        PNG + "two_million_chunks_are_refused_after_a_hundred_thousand",
    ),
    Removal(
        "16 bits of colour are cut to 8",
        "cxr/images/png.py",
        "way | cv2.IMREAD_ANYDEPTH",
        "way",
        PNG + "colour_of_16_bits_is_scaled_by_its_own_range",
    ),
    Removal(
        "a shortage of memory stops the scoring run",
        "cxr/images/reading.py",
        "except MemoryError:",
        "except ZeroDivisionError:",
        PNG + "a_shortage_of_memory_is_never_the_images_fault",
    ),
    Removal(
        "a name forges a line of the log or moves the cursor",
        "cxr/cli/terminal.py",
        "return visible(super().formatMessage(record))",
        "return super().formatMessage(record)",
        FOREIGN + "no_name_writes_a_line_or_moves_the_cursor",
    ),
    Removal(
        "a class name is a picture in the model card",
        "cxr/wording.py",
        'return MARKUP.sub(r"\\\\\\1", visible(text))',
        "return visible(text)",
        FOREIGN + "a_card_and_an_artifact_hold_neither_links_nor_pictures_nor_html",
    ),
    Removal(
        "a report shows control characters as they are",
        "cxr/report/markup.py",
        "        finalize=_finalize,\n",
        "",
        FOREIGN + "a_page_runs_no_script_and_asks_for_nothing",
    ),
    Removal(
        "a patient's name where a DICOM code belongs",
        "cxr/images/dicom/radiograph.py",
        "if photometric not in INTERPRETATIONS:",
        "if False:",
        "tests/images/dicom/test_radiograph.py::test_no_text_of_a_tag_is_ever_quoted",
    ),
    Removal(
        "label suspects: class weights decide which images come first",
        "cxr/evaluation/subgroups.py",
        "rank_labels(images.calibrated, images.target)",
        "rank_labels(images.probability, images.target)",
        "tests/evaluation/test_subgroups.py::test_"
        "planted_errors_come_first_though_class_weights_have_shifted_the_probabilities",
    ),
    Removal(
        "label suspects: an image whose own label is the most probable",
        "cxr/metrics/confident_learning.py",
        "    is_suspect &= self_confidence < others.max(axis=1)\n",
        "",
        "tests/metrics/test_confident_learning.py::test_an_image_whose_own_label_is_the_most_probable_is_no_suspect",
    ),
    Removal(
        "a failed MLflow store keeps runs that never end",
        "cxr/report/tracking.py",
        'client.set_terminated(begun, status="FAILED")',
        "pass",
        "tests/report/test_tracking.py::test_a_store_that_fails_ends_the_runs_it_has_begun_and_says_so_in_one_sentence",
    ),
    Removal(
        "a class has a name that MLflow does not take",
        "cxr/report/tracking.py",
        're.sub(r"[^\\w. -]", "_", name)',
        "name",
        "tests/report/test_tracking.py::test_every_class_has_metrics_of_its_own_under_a_name_that_mlflow_takes",
    ),
    Removal(
        "the clock is set: services are forgotten",
        "deployments/processes.py",
        'return f"boot {boot}, tick {int(after_name[TICK])}"',
        'return f"at {process.create_time()}"',
        "tests/deployments/test_processes.py::test_a_step_of_the_clock_does_not_make_a_service_unknown",
    ),
    Removal(
        "a newer Prefect's database: minutes, then a traceback",
        "deployments/prefect_home.py",
        "if revision is not None and not _is_known(revision):",
        "if False:",
        "tests/deployments/test_prefect_home.py::test_a_newer_database_is_refused_and_every_known_one_is_not",
    ),
    Removal(
        "PWD is not set: deployments run in no folder",
        "deployments/services.py",
        '{"PWD": str(Path.cwd()), "TZ"',
        '{"TZ"',
        UP,
    ),
    Removal(
        "somebody else's flows on the path or in the working folder: workers import them",
        "cxr/application.py",
        "sys.path.insert(0, str(folder()))",
        "pass",
        "tests/test_application.py::test_prefect_finds_the_flows_ahead_of_somebody_elses_packages",
    ),
    Removal(
        "a patient unlike all others is a fold of its own",
        "cxr/dataset/clusters.py",
        "groups[NUMBERS].clip(low, high), ",
        "groups[NUMBERS], ",
        CLUSTERS + "a_patient_whose_images_are_unlike_all_others_is_no_cluster_of_its_own",
    ),
    Removal(
        "a cluster left out lacks a class",
        "cxr/dataset/clusters.py",
        "        if cluster is None:\n",
        "        if False:\n",
        CLUSTERS + "classes_of_different_scanners_lose_one_each_so_that_each_fold_has_both",
    ),
    Removal(
        "a model of clusters is compared with one of patients",
        "cxr/serving/challenger.py",
        "if champion.leave_out != challenger.leave_out:",
        "if False:",
        "tests/serving/test_registry.py::test_a_model_of_clusters_is_not_compared_with_one_of_patients",
    ),
    Removal(
        "a run from before a field was added is another run",
        "cxr/config.py",
        " if (name, value) not in ADDED.items()",
        "",
        "tests/test_config.py::test_a_config_from_before_a_field_was_added_keeps_its_identity_and_its_name",
    ),
    Removal(
        "a run from before a field was added has today's value of the preset",
        "cxr/config.py",
        "{name: value for name, value in ADDED.items() if name in names} | dict(values)",
        "dict(values) if names else {}",
        "tests/test_config.py::"
        "test_a_config_from_before_a_field_was_added_means_what_it_did_whatever_the_presets_say_now",
    ),
    Removal(
        "a network is shown mirrored images that it never saw",
        "cxr/recipe.py",
        'if self.test_views == "zoom-and-flip" and not self.flip:',
        "if False:",
        "tests/test_recipe.py::test_options_that_make_no_sense_together_are_refused",
    ),
    Removal(
        "weights carry views that are left out where they are loaded",
        "cxr/network/resnet.py",
        '        model.view_maps = state.get("view_maps")\n',
        '        state = {name: tensor for name, tensor in state.items() if name != "view_maps"}\n',
        "tests/network/test_views.py::test_weights_carry_their_views_and_those_of_before_have_none",
    ),
    Removal(
        "half the side is so small that a gradient holds what was in memory before",
        "cxr/recipe.py",
        "if self.size < 2 * SMALLEST_SIDE:",
        "if False:",
        "tests/test_recipe.py::test_options_that_make_no_sense_together_are_refused",
    ),
    Removal(
        "a share of the epochs that is no epoch is taken for none",
        "cxr/recipe.py",
        "if not self.half_size_epochs:",
        "if False:",
        "tests/test_recipe.py::test_options_that_make_no_sense_together_are_refused",
    ),
    Removal(
        "a file in the place of a folder: a traceback",
        "cxr/cli/arguments.py",
        "    if is_folder and not (",
        "    if False and not (",
        "tests/cli/test_arguments.py::test_nonsense_ends_with_code_2_and_a_sentence_that_names_the_option",
    ),
    Removal(
        "labelled images are training images: the model is flattered",
        "cxr/recalibration/labelled_images.py",
        "is_kept = ~(is_unreadable | is_copy | in_training)",
        "is_kept = ~(is_unreadable | is_copy)",
        RECALIBRATION + "images_that_the_model_was_made_from_are_left_out_and_too_few_are_refused",
    ),
    Removal(
        "a patient in the champion's training is set aside: it is compared on what it has learnt",
        "cxr/retraining/set_aside.py",
        "    return is_free & (place < share)\n",
        "    return place < share\n",
        "tests/retraining/test_set_aside.py::"
        "test_a_group_with_an_image_that_the_champion_was_made_from_is_never_set_aside",
    ),
    Removal(
        "few patients set aside: compared all the same",
        "cxr/retraining/set_aside.py",
        "    if (n_patients < LEAST).any():\n",
        "    if False:\n",
        "tests/retraining/test_set_aside.py::test_too_few_patients_of_a_class_and_nothing_to_train_on_are_refused",
    ),
    Removal(
        "a labelled file is another by now: it is trained on under the label",
        "cxr/images/image_table.py",
        '        if image_id_of(data) != row["image_id"]:\n',
        "        if False:\n",
        "tests/retraining/test_images.py::test_a_file_that_changes_after_the_table_was_written_is_not_read",
    ),
    Removal(
        "the champion changed while the next version was trained: it is replaced",
        "cxr/serving/registry.py",
        "        if over not in (None, before):\n",
        "        if False:\n",
        "tests/retraining/test_outcome.py::test_a_champion_that_changed_in_the_meantime_is_not_replaced",
    ),
    Removal(
        "a retraining is killed: what it has half-written stays",
        "cxr/retraining/outcome.py",
        "        files.sweep(run.folder.retraining.path)\n",
        "",
        "tests/flows/verbs/test_training.py::test_a_retraining_that_is_killed_again_and_again_ends_as_one_that_was_not",
    ),
    Removal(
        "few labelled images: fitted all the same",
        "cxr/recalibration/labelled_images.py",
        "    if (counts >= LEAST).all():\n",
        "    if True:\n",
        LABELLED + "patients_are_counted_where_they_are_known",
    ),
    Removal(
        "one file, two labels: the first is believed",
        "cxr/recalibration/labelled_images.py",
        'if same["label"].nunique() > 1:',
        "if False:",
        LABELLED + "a_file_with_two_labels_is_refused",
    ),
    Removal(
        "a version is recalibrated twice: its images count twice",
        "cxr/recalibration/recalibrate.py",
        "    version = recalibrated_from(package.facts)\n",
        "    version = None\n",
        RECALIBRATION
        + "the_same_labels_give_the_same_version_and_it_starts_from_the_version_that_was_made_from_the_run",
    ),
    Removal(
        "a labels file has a class that the model has not: guessed",
        "cxr/labels/model_classes.py",
        "    unknown = label[~label.isin(classes)]\n",
        "    unknown = label[:0]\n",
        "tests/recalibration/test_labels.py::test_a_label_that_the_model_has_not_is_refused",
    ),
    Removal(
        "a blank value: taken for negative",
        "cxr/labels/meanings.py",
        "    if blank.any() and labelling.blank is None:\n",
        "    if False:\n",
        "tests/labels/test_meanings.py::test_what_is_left_open_is_asked_for",
    ),
    Removal(
        "readers disagree: the first is believed",
        "cxr/labels/combining.py",
        "        if rule is None and disagrees.any():\n",
        "        if False:\n",
        "tests/labels/test_combining.py::test_rows_that_disagree_ask_for_a_rule",
    ),
    Removal(
        "ids of images: taken for patients",
        "cxr/labels/patients.py",
        "n_images.max() == 1",
        "False",
        "tests/labels/test_patients.py::test_ids_of_images_are_not_taken_for_patients",
    ),
    Removal(
        "a row whose image is missing: another patient's image of that name",
        "cxr/labels/matching.py",
        "(n_found := (_n_own(found), len(found)))",
        "(n_found := (len(found), len(found)))",
        "tests/labels/test_matching.py::"
        "test_a_row_whose_file_is_missing_does_not_take_another_patients_file_of_the_same_name",
    ),
    Removal(
        "a name of two files: the first is taken",
        "cxr/labels/matching.py",
        "        if len(files) > 1:\n",
        "        if False:\n",
        "tests/labels/test_matching.py::test_one_name_of_two_files_is_refused",
    ),
    Removal(
        "a study without labels: blank means negative",
        "cxr/labels/columns.py",
        "    return joined[has_partner] if has_labels else joined\n",
        "    return joined\n",
        "tests/labels/test_columns.py::test_a_row_without_a_partner_in_the_table_of_labels_is_no_row",
    ),
    Removal(
        "another table of labels: the run goes on",
        "cxr/dataset/manifest.py",
        "    of_tables = [] if resolved is None else [resolved.sha256]\n",
        "    of_tables = []\n",
        "tests/dataset/listing/test_labelled.py::test_a_run_resumes_with_the_same_tables_wherever_they_lie_and_with_no_others",
    ),
    Removal(
        "a table here: stands for another one within the data",
        "cxr/labels/tables.py",
        "    if here is not None and any(data != here for _, data, _ in inside):\n",
        "    if False:\n",
        "tests/labels/test_tables.py::test_a_table_here_does_not_stand_for_another_one_within_the_data",
    ),
    Removal(
        "every image counts as a patient: those with many images move the quantile",
        "cxr/metrics/conformal.py",
        "1 / n_images[patient[order]]",
        "len(n_images) / len(probability) + 0 * n_images[patient[order]]",
        CONFORMAL + "each_patient_counts_once_whatever_number_of_images_it_has",
    ),
    Removal(
        "a quantile without the new patient: more than the stated share is excluded",
        "cxr/metrics/conformal.py",
        "(len(n_images) + 1) * (1 - level)",
        "len(n_images) * (1 - level)",
        CONFORMAL + "the_threshold_is_the_quantile_worked_by_hand",
    ),
    Removal(
        "an image that no class fits gets a class as answer",
        "cxr/serving/predictor.py",
        "return self.fitting[0] if len(self.fitting) == 1 else REFER",
        "return self.fitting[0] if len(self.fitting) == 1 else self.predicted",
        REFERRAL + "a_class_is_the_answer_where_it_alone_fits_and_the_image_is_referred_elsewhere",
    ),
    Removal(
        "a recalibrated version refers by the thresholds of other images",
        "cxr/recalibration/version.py",
        'if name not in ("refer", "pulled")',
        'if name != "pulled"',
        RECALIBRATION + "referral_is_dropped_and_says_so_where_the_labelled_images_have_too_few_patients",
    ),
    Removal(
        "a limit of novelty without a margin: more than 1% of real images are flagged",
        "cxr/serving/novelty.py",
        "stats.binom.ppf(CONFIDENCE, n,",
        "stats.binom.ppf(0.5, n,",
        NOVELTY
        + "the_limit_is_the_lowest_distance_beyond_which_at_most_one_percent_lie_with_a_confidence_of_95_percent",
    ),
    Removal(
        "a package without a limit of novelty: its images pass for ordinary ones",
        "cxr/serving/predictor.py",
        "unlike_training=None if limit is None else bool(novelty[k] > limit),",
        "unlike_training=bool(novelty[k] > (limit or 1e9)),",
        "tests/serving/test_predictor.py::test_a_package_from_before_there_was_a_limit_predicts_the_same_and_leaves_"
        "open_what_is_unlike",
    ),
    Removal(
        "a failed export of images counts as texts beside them",
        "cxr/images/other_files.py",
        " or PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES",
        "",
        "tests/images/test_other_files.py::test_what_is_named_as_an_image_stays_an_image_that_cannot_be_read",
    ),
    Removal(
        "8-bit integers that may be worse: packaged",
        "cxr/export/int8/verdict.py",
        'if not judged["holds"].all():',
        "if False:",
        INTEGERS + "a_model_that_is_not_shown_to_be_as_good_in_them_is_refused_and_nothing_is_left",
    ),
    Removal(
        "a package in 8-bit integers: scored in float32 at their thresholds",
        "cxr/serving/predictor.py",
        'if self._precision not in ("auto", "int8"):',
        "if False:",
        INTEGERS + "a_package_made_with_8_bit_integers_scores_with_them_alone",
    ),
    Removal(
        "biases that rounding to 8-bit integers has moved",
        "cxr/network/int8.py",
        "        correct_biases(plain, temporary, inputs_N)\n",
        "",
        "tests/network/test_int8.py::test_the_means_of_a_convolutions_channels_are_those_of_float32",
    ),
    Removal(
        "several OpenVINO cores in one process: a stop is a segmentation fault",
        "cxr/network/int8.py",
        "@functools.cache\n",
        "",
        "tests/network/test_int8.py::test_a_process_that_has_dropped_its_networks_can_still_be_stopped",
    ),
    Removal(
        "too few patients to see a difference: taken for none",
        "cxr/evaluation/on_request/noninferiority.py",
        '"holds": bool(bound >= -margin)',
        '"holds": bool(now["value"] - then["value"] >= -margin)',
        "tests/evaluation/on_request/test_noninferiority.py::test_a_difference_that_few_patients_cannot_show_to_be_small_does_not_hold",
    ),
    Removal(
        "images of one patient: tested as if of many",
        "cxr/evaluation/on_request/comparison.py",
        "np.bincount(group, right_after",
        "np.bincount(np.arange(len(group)), right_after",
        "tests/evaluation/on_request/test_comparison.py::test_the_images_of_a_patient_change_together_and_count_once",
    ),
    Removal(
        "an appraised finding's label is named as its probability: a perfect model",
        "cxr/dataset/prediction_outputs.py",
        "if column in taken]",
        "if column in ()]",
        "tests/dataset/test_prediction_labels.py::test_what_would_have_to_be_guessed_of_findings_is_one_sentence",
    ),
    Removal(
        "appraised labels have columns named as classes: taken for probabilities",
        "cxr/dataset/predictions.py",
        "_outputs(replace(source, rows=source.rows[is_known])",
        "_outputs(replace(table, rows=table.rows[is_known])",
        "tests/dataset/test_predictions.py::test_columns_of_another_table_are_no_outputs",
    ),
    Removal(
        "an appraised image is in no row of the labels: free of every finding",
        "cxr/dataset/predictions.py",
        'if missing and columns.blank != "mask":',
        "if missing and columns.blank is None:",
        "tests/dataset/test_prediction_labels.py::test_labels_of_another_table_stand_beside_outputs_of_the_same_name",
    ),
    Removal(
        "scores from before a column was added: a traceback",
        "cxr/serving/scoring/scores.py",
        "for name, kind in ADDED.items() if name not in rows}",
        "for name, kind in ADDED.items() if not name}",
        "tests/serving/scoring/test_scores.py::test_scores_from_before_a_column_was_added_are_read_with_those_of_after",
    ),
    Removal(
        "a few images that the model separates: the slope goes to infinity",
        "cxr/metrics/recalibration.py",
        "SLOPE_SD = 0.5\n",
        "SLOPE_SD = 500.0\n",
        "tests/metrics/test_recalibration.py::"
        "test_ten_images_that_are_told_apart_without_an_error_do_not_drive_the_slope_away",
    ),
    Removal(
        "an unknown finding is learnt as absent",
        "cxr/training/fold/loss.py",
        "known_BK = ~targets_BK.isnan()",
        "known_BK = torch.ones_like(targets_BK)",
        "tests/training/fold/test_loss.py::test_an_unknown_finding_has_no_gradient",
    ),
    Removal(
        "several findings are taken for classes",
        "cxr/classes.py",
        "        raise for_one_label(owner)\n",
        "        return Classes(outputs)\n",
        FINDINGS + "what_is_for_one_label_refuses_findings_in_one_sentence",
    ),
    Removal(
        "a rare finding is dealt out last, as it comes",
        "cxr/dataset/findings.py",
        "rarest = int(np.argmin(np.where(n_left > 0, n_left, np.inf)))",
        "rarest = int(np.argmax(n_left))",
        "tests/dataset/test_findings.py::test_the_rarest_finding_is_spread_evenly_whatever_the_others_are",
    ),
    Removal(
        "a challenger is worse in one of several findings",
        "cxr/serving/challenger.py",
        " for k, name in enumerate(findings) if high[k] < 0]",
        " for k, name in enumerate(findings) if False]",
        FINDINGS + "a_challenger_with_one_worse_finding_is_refused",
    ),
    Removal(
        "folders are taken for several findings",
        "cxr/dataset/findings.py",
        '    if config.label_from != "subtype" and not config.reads_tables:\n',
        "    if False:\n",
        FINDINGS + "folders_without_subtypes_are_refused_before_an_image_is_read",
    ),
    Removal(
        "a look at labels counts for nothing, however many there were",
        "cxr/metrics/sequential.py",
        "        begun = -math.log(number * (number + 1))  # the shares of all looks sum to 1\n",
        "        begun = 0.0\n",
        "tests/metrics/test_sequential.py::test_no_bet_wins_on_average_where_the_promise_is_just_kept",
    ),
    Removal(
        "a patient who is labelled again counts again",
        "cxr/feedback/looks.py",
        '    arrived = arrived[arrival == arrival.groupby(arrived["group"]).transform("min")]\n',
        "",
        "tests/feedback/test_verdicts.py::test_a_patient_is_in_one_look_alone",
    ),
    Removal(
        "three classes are judged as often as three models are",
        "cxr/feedback/looks.py",
        "_judged_looks(of_version, name, promise, share=1 / len(classes.evaluated))",
        "_judged_looks(of_version, name, promise, share=1)",
        "tests/feedback/test_verdicts.py::test_the_classes_share_the_wealth_and_one_broken_promise_is_enough",
    ),
    Removal(
        "a verdict is taken back",
        "cxr/feedback/looks.py",
        "        most = float(found[:number].max())\n",
        "        most = float(value)\n",
        "tests/feedback/test_verdicts.py::test_what_was_surely_below_once_stays_so_for_this_version",
    ),
    Removal(
        "later labels: one name of two contents",
        "cxr/feedback/matching.py",
        "            if len(images) > 1:\n",
        "            if False:\n",
        "tests/feedback/test_matching.py::"
        "test_a_name_of_two_contents_is_refused_and_the_batch_or_the_hash_tells_them_apart",
    ),
    Removal(
        "later labels: the file of a UID was replaced since it was scored",
        "cxr/feedback/scored.py",
        '        if image_id_of(data) != row["image_id"]:\n',
        "        if False:\n",
        "tests/feedback/test_feedback.py::"
        "test_a_uid_is_read_from_the_file_in_the_inbox_if_its_content_is_still_that_which_was_scored",
    ),
    Removal(
        "later labels: images that the model was made from are judged",
        "cxr/feedback/performance.py",
        '    joined = joined[~joined["in_training"].astype(bool)]\n',
        "",
        "tests/feedback/test_performance.py::test_images_that_the_model_was_made_from_are_left_out",
    ),
    Removal(
        "later labels: a deleted entry's number is given again",
        "cxr/storage/scores_folder.py",
        "return 1 + max(numbers, default=0)",
        "return 1 + len(numbers)",
        "tests/feedback/test_ledger.py::test_an_entry_never_takes_the_number_of_another",
    ),
    Removal(
        "a pulled file is not held against its hash when it arrives",
        "cxr/sharing/pull.py",
        "            if files.sha256_of(arrived.path / file) not in digests:\n",
        "            if False:\n",
        REFUSED + "[a byte of the weights]",
    ),
    Removal(
        "what is pulled and what its hashes name may differ",
        "cxr/sharing/pull.py",
        "    for file in sorted(sums.keys() ^ (sizes.keys() - {SUMS})):\n",
        "    for file in ():\n",
        REFUSED + "[a file was added]",
    ),
    Removal(
        "code that somebody signed is pulled",
        "cxr/sharing/pull.py",
        "        if size is None or not is_file_of_package(file):\n",
        "        if size is None:\n",
        REFUSED + "[code that was signed]",
    ),
    Removal(
        "a link is pulled as if it were a file",
        "cxr/sharing/file_place.py",
        "path.is_file() and not path.is_symlink()",
        "path.is_file()",
        REFUSED + "[a link]",
    ),
    Removal(
        "a hash list without end is read",
        "cxr/sharing/pull.py",
        "    if sizes[SUMS] > LARGEST_SUMS:\n",
        "    if False:\n",
        REFUSED + "[sums without end]",
    ),
    Removal(
        "a pull fills the disk",
        "cxr/sharing/pull.py",
        "    if n_bytes > free:\n",
        "    if False:\n",
        PULL + "a_disk_that_is_too_small_is_known_before_anything_is_copied",
    ),
    Removal(
        "a pulled recalibrated version: its start is taken for the version of that number here",
        "cxr/recalibration/recalibrate.py",
        '    if "pulled" in package.facts:\n',
        "    if False:\n",
        PULL + "a_pulled_version_that_was_recalibrated_finds_its_start_by_hash_and_not_by_number",
    ),
    Removal(
        "a push overwrites another package",
        "cxr/sharing/push.py",
        "    if there != package.folder.checksums.read_bytes():\n",
        "    if False:\n",
        PUSH + "another_package_of_that_name_and_version_is_never_overwritten",
    ),
    Removal(
        "a push writes the hashes before all files are there",
        "cxr/sharing/file_place.py",
        "key=lambda path: (path == package.checksums, path.name)",
        "key=lambda path: path.name",
        PUSH + "a_push_that_is_killed_at_any_step_leaves_no_package_or_the_whole",
    ),
    Removal(
        "two pushes to the Hub at once: the second overwrites",
        "cxr/sharing/hub.py",
        "parent_commit=parent,",
        "parent_commit=None,",
        "tests/sharing/test_hub.py::test_two_pushes_at_once_do_not_overwrite_one_another",
    ),
)


def main() -> None:
    """Remove all protections, or those whose fault contains one of the words given; print which tests noticed."""
    words = sys.argv[1:]
    chosen = [removal for removal in REMOVALS if not words or any(word in removal.fault for word in words)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        noticed = list(pool.map(_try, chosen))
    print(f"{sum(noticed)} of {len(chosen)} noticed")
    sys.exit(not all(noticed))


def _try(removal: Removal) -> bool:
    with tempfile.TemporaryDirectory(prefix="cxr-removal-") as scratch:
        project = Path(scratch) / "project"
        shutil.copytree(PROJECT, project, ignore=LEFT_OUT)
        removal.apply(project)
        Removal("", "tests/support/processes.py", "timeout_s: float = 240", "timeout_s: float = 90", "").apply(project)
        command = [sys.executable, "-m", "pytest", removal.test, "-x", "--numprocesses=0", "-p", "no:cacheprovider"]
        environment = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    has_failed = ended.returncode == 1
    complaint = re.search(r"^E +(.*)", ended.stdout, re.MULTILINE)
    message = complaint.group(1)[:150] if complaint else ended.stdout[-300:]
    print(f"{'noticed' if has_failed else 'NOT NOTICED'} | {removal.fault} | {removal.test} | {message}", flush=True)
    return has_failed


if __name__ == "__main__":
    main()

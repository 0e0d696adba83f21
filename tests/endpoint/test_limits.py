from cxr.endpoint.limits import AT_ONCE, Limits


def test_limits_in_mib_are_bytes_and_all_requests_together_hold_sixteen_times_as_many() -> None:
    assert (Limits(max_mb=1).n_bytes, Limits(max_mb=3).n_bytes) == (1_048_576, 3_145_728)
    assert AT_ONCE == 16
    assert Limits(max_mb=64).n_bytes_at_once == 1_073_741_824


def test_without_options_a_request_has_at_most_64_images_64_mib_and_a_minute() -> None:
    limits = Limits()
    assert (limits.max_images, limits.n_bytes, limits.timeout) == (64, 67_108_864, 60)

import time

from mlops_for_mle.serving.prediction_log.shipping_pace import ShippingPace


def test_while_requests_come_in_shipping_rests_longer_than_it_works():
    pace = ShippingPace(is_half_full=lambda: False)
    pace.answered(time.time_ns())

    assert pace.rest_after(0.01) >= 0.02


def test_without_requests_shipping_hardly_rests():
    pace = ShippingPace(is_half_full=lambda: False)
    assert pace.rest_after(0.01) < 0.001

    pace.answered(time.time_ns() - 10**9)
    assert pace.rest_after(0.01) < 0.001


def test_a_spool_that_fills_up_is_shipped_at_full_speed():
    pace = ShippingPace(is_half_full=lambda: True)
    pace.answered(time.time_ns())

    assert pace.rest_after(0.01) < 0.001

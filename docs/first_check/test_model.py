from model import gelu, loss, make_args

from kinkopt.testing import assert_rule


def test_loss(assert_gradient):
  assert_gradient(loss, *make_args())


def test_gelu():
  params, x, _ = make_args()
  assert_rule(gelu, x @ params["hidden"]["w"])

"""Episodes are kept and put back, or it is said why not."""

from __future__ import annotations

from typing import Callable

from hothouse.worker.frames import Asked, Said

from .peer import Peer, Worker

PeerOf = Callable[[str], Peer]


def test_an_episode_goes_on_from_where_it_was(peer_of: PeerOf) -> None:
    peer = peer_of("Echo")
    peer.opened(1)
    peer.ask(1, Asked.RESET, {"episode_id": "ep"})
    for _ in range(3):
        peer.ask(1, Asked.STEP, {"message": "x"})
    kept = peer.ask(1, Asked.CHECKPOINT)
    assert kept.kind is Said.DONE
    peer.ask(1, Asked.STEP, {"message": "x"})
    peer.opened(2)
    for session in (2, 7):
        # One that is open, and one that is made so.
        assert peer.ask(session, Asked.RESTORE, kept.payload).payload == b""
        assert peer.ask(session, Asked.STATE).value == {"episode_id": "ep", "step_count": 3}
    assert peer.ask(1, Asked.STATE).value["step_count"] == 4
    peer.ask(1, Asked.RESTORE, kept.payload)
    assert peer.ask(1, Asked.STATE).value["step_count"] == 3
    peer.ask(7, Asked.STEP, {"message": "x"})
    assert peer.ask(2, Asked.STATE).value["step_count"] == 3, "copies are apart"


def test_what_pickle_cannot_is_tried_once_more(peer_of: PeerOf) -> None:
    peer = peer_of("Lambda")
    peer.opened(1)
    kept = peer.ask(1, Asked.CHECKPOINT)
    assert kept.kind is Said.DONE
    peer.ask(2, Asked.RESTORE, kept.payload)
    assert peer.ask(2, Asked.STEP, {"message": "x"}).seen["message"] == "<x>"


def test_what_cannot_be_kept_is_said(peer_of: PeerOf) -> None:
    peer = peer_of("Locked")
    peer.opened(1)
    failed = peer.ask(1, Asked.CHECKPOINT)
    assert (failed.kind, failed.value["type"]) == (Said.FAILED, "NotSupported")
    assert "Locked cannot be copied, since it cannot be pickled" in failed.value["message"]
    assert "write checkpoint() and restore()" in failed.value["message"]
    assert peer.ask(1, Asked.STEP, {"message": "x"}).kind is Said.DONE


def test_an_author_may_say_how_it_is_kept(peer_of: PeerOf) -> None:
    peer = peer_of("Kept")
    peer.opened(1)
    peer.ask(1, Asked.STEP, {"message": "x"})
    kept = peer.ask(1, Asked.CHECKPOINT)
    assert len(kept.payload) < 100
    for session in (1, 2):
        peer.ask(session, Asked.RESTORE, kept.payload)
        assert peer.ask(session, Asked.STATE).value["step_count"] == 1


def test_what_is_no_checkpoint_is_refused(peer_of: PeerOf) -> None:
    peer = peer_of("Echo")
    peer.opened(1)
    for payload in (b"", b"nonsense"):
        failed = peer.ask(2, Asked.RESTORE, payload)
        assert (failed.kind, failed.value["message"]) == (
            Said.FAILED,
            "these bytes are no checkpoint of an environment",
        )
    assert peer.ask(2, Asked.STATE).value["type"] == "SessionUnknown"


def test_environments_that_would_forget_where_they_are_do_not(start: Callable[..., Worker]) -> None:
    # Those of PettingZoo's classics say to pickle only how they were made.
    peer = start("pettingzoo:classic/tictactoe_v3").peer()
    peer.opened(1)
    peer.ask(1, Asked.RESET, {"seed": 1})
    for place in (0, 4, 1):
        peer.ask(1, Asked.STEP, {"action": place})
    kept = peer.ask(1, Asked.CHECKPOINT)
    peer.ask(2, Asked.RESTORE, kept.payload)
    first, second = (peer.ask(session, Asked.STEP, {"action": 3}).payload for session in (1, 2))
    assert first == second
    assert b'"action_mask":[0,0,1,0,0,1,1,1,1]' in first

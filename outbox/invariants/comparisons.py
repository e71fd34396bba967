"""Does what the client and the receiver wrote down agree with the store? Questions to the books, one each.

A question answers lines of (what it is about, what is wrong with it).
"""

from outbox.invariants.books import Books
from outbox.invariants.findings import NAMED, Finding
from outbox.invariants.question import Progress, Question

STOPS_WITHIN_SECONDS = 2

_ACKNOWLEDGEMENTS = "SELECT count(*) FROM ledger WHERE outcome IN ('acknowledged', 'duplicate') AND NOT lost"
_REFUSALS = "SELECT count(*) FROM ledger WHERE outcome = 'refused'"
_SUCCESSES = "SELECT count(*) FROM attempt WHERE outcome = 'delivery.succeeded'"
_SIGHTINGS = "SELECT count(*) FROM sighting"
_REQUESTS = "SELECT count(*) FROM ledger"
_UNSIGNED = "SELECT count(*) FROM sighting WHERE signed IS NULL"

# Acknowledged, and in the store: there, with these bytes. (Erased bytes are the store's own question.)
_ACKNOWLEDGED = """
SELECT 'id ' || l.event_id || ' of account ' || l.account,
       CASE WHEN c.event IS NULL THEN 'acknowledged, and not in the store'
            WHEN c.sha256 <> l.sha256 OR c.size <> l.size THEN 'acknowledged, and stored with other bytes'
       END AS wrong
  FROM (SELECT DISTINCT account, event_id, sha256, size FROM ledger
         WHERE outcome IN ('acknowledged', 'duplicate') AND NOT lost) l
  LEFT JOIN content c ON c.account = l.account AND c.event_id = l.event_id
 WHERE wrong IS NOT NULL
"""
_REPOSTED = """
SELECT 'id ' || l.event_id || ' of account ' || l.account,
       'acknowledged as event ' || l.event || ', and stored as ' || c.event
  FROM (SELECT DISTINCT account, event_id, event FROM ledger
         WHERE outcome IN ('acknowledged', 'duplicate') AND NOT lost) l
  JOIN content c ON c.account = l.account AND c.event_id = l.event_id
 WHERE l.event <> c.event
"""
# What is stored are bytes that were refused, and that nobody sent without being refused.
_REFUSED = """
SELECT DISTINCT 'id ' || l.event_id || ' of account ' || l.account,
       'refused with ' || coalesce(l.status, 'no status') || ', and stored'
  FROM ledger l JOIN content c ON c.account = l.account AND c.event_id = l.event_id AND c.sha256 = l.sha256
 WHERE l.outcome = 'refused'
   AND NOT EXISTS (SELECT 1 FROM ledger o WHERE o.account = l.account AND o.event_id = l.event_id
                      AND o.sha256 = l.sha256 AND o.outcome <> 'refused')
"""
_SUCCEEDED = """
SELECT 'delivery ' || a.delivery_id || ', attempt ' || a.attempt,
       CASE WHEN count(s.at) = 0 THEN 'succeeded, and nobody saw it'
            WHEN max(s.signed IS NOT 0) = 0 THEN 'succeeded, and its signature was not valid'
            WHEN max(s.signed IS NOT 0 AND s.status BETWEEN 200 AND 299) IS NOT 1
                THEN 'succeeded, and the receiver did not answer 2xx' END AS wrong
  FROM attempt a LEFT JOIN sighting s ON s.delivery_id = a.delivery_id AND s.attempt = a.attempt
 WHERE a.outcome = 'delivery.succeeded'
 GROUP BY a.delivery_id, a.attempt HAVING wrong IS NOT NULL
"""
_TWICE = """
SELECT 'delivery ' || delivery_id || ', attempt ' || attempt, 'seen ' || count(*) || ' times'
  FROM sighting s WHERE delivery_id IS NOT NULL
 GROUP BY delivery_id, attempt, (SELECT count(*) FROM epoch e WHERE e.began_at <= s.at) HAVING count(*) > 1
"""
_UNRECORDED = """
SELECT 'delivery ' || s.delivery_id || ', attempt ' || coalesce(s.attempt, 'without a number'),
       'seen, and neither on record nor under way'
  FROM sighting s
 WHERE s.before_snapshot AND NOT s.lost
   AND EXISTS (SELECT 1 FROM delivery d WHERE d.delivery_id = s.delivery_id)
   AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.delivery_id = s.delivery_id AND a.attempt = s.attempt)
"""
# In a run without faults, and with destinations that answer well, nothing is sent again but on request.
_AGAIN = """
SELECT 'delivery ' || d.delivery_id, 'seen ' || count(*) || ' times, though nothing failed'
  FROM sighting s JOIN delivery d ON d.delivery_id = s.delivery_id
 GROUP BY d.delivery_id, d.requests HAVING count(DISTINCT s.attempt) > 1 + d.requests
"""
_NEVER_ACCEPTED = """
SELECT 'sighting at ' || s.destination || ', delivery ' || coalesce(s.delivery_id, 'without an id'),
       CASE WHEN d.delivery_id IS NULL THEN 'nothing of the kind was accepted'
            WHEN d.event_id IS NOT s.event_id THEN 'it names another event id'
            WHEN d.sha256 <> s.sha256 AND s.method <> 'GET' THEN 'it has other bytes' END AS wrong
  FROM sighting s LEFT JOIN delivery d ON d.delivery_id = s.delivery_id
 WHERE s.before_snapshot AND NOT s.lost AND wrong IS NOT NULL
"""
_TOO_LATE = """
SELECT 'delivery ' || s.delivery_id || ', attempt ' || s.attempt,
       printf('seen %.1f s after its destination was gone or inactive', s.at - i.since)
  FROM sighting s
  JOIN delivery d ON d.delivery_id = s.delivery_id
  JOIN inactive i ON i.destination_id = d.destination_id AND s.at > i.since + :stops_within AND s.at < i.until
 GROUP BY s.delivery_id, s.attempt
"""
# Without a word of faults: that we are away for a moment is not judged, all else is.
_SERVER_ERRORS = """
SELECT 'id ' || event_id || ' of account ' || account, printf('answered %d at %.3f', status, answered_at)
  FROM ledger l
 WHERE status >= 500 AND (:is_told OR status NOT IN (502, 503, 504))
   AND NOT EXISTS (SELECT 1 FROM fault f WHERE l.answered_at BETWEEN f.began_at AND f.ended_at)
"""
_UNJUDGED = "SELECT count(*) FROM ledger WHERE status IN (502, 503, 504) AND NOT :is_told"

_OF_LEDGER = (
    ("I1", "acknowledgements", _ACKNOWLEDGEMENTS, _ACKNOWLEDGED),
    ("I2", "acknowledgements", _ACKNOWLEDGEMENTS, _REPOSTED),
    ("I3", "refusals", _REFUSALS, _REFUSED),
    ("I14", "requests", _REQUESTS, _SERVER_ERRORS),
)
_OF_SIGHTINGS = (
    ("I5", "successes", _SUCCESSES, _SUCCEEDED),
    ("I6", "sightings", _SIGHTINGS, _TWICE),
    ("I6", None, None, _UNRECORDED),
    ("I7", "sightings", _SIGHTINGS, _NEVER_ACCEPTED),
    ("I7", None, None, _TOO_LATE),
)
_OF_HEALTHY_SIGHTINGS = (("I6", None, None, _AGAIN),)


def compare(books: Books, question: Question, found: dict[str, Finding], progress: Progress) -> None:
    asked = (
        *(_OF_LEDGER if books.has_ledger else ()),
        *(_OF_SIGHTINGS if books.has_sightings else ()),
        *(_OF_HEALTHY_SIGHTINGS if books.has_sightings and question.healthy else ()),
    )
    told = {"is_told": question.healthy or bool(question.faults), "stops_within": STOPS_WITHIN_SECONDS}
    for number, what, count, query in asked:
        if number in question.only:
            progress(f"{number} {what or 'sightings'}", 0, None)
            checked = books.number(count) if count else 0
            violated = books.number(f"SELECT count(*) FROM ({query})", **told)  # noqa: S608 - our own query
            examples = books.ask(f"{query} LIMIT {NAMED}", **told) if violated else []
            found[number].add(what, checked, violated, [f"{about}: {wrong}" for about, wrong in examples])
    _note(found["I5"], books.number(_UNSIGNED), "sightings whose receiver could not judge the signature")
    _note(found["I14"], books.number(_UNJUDGED, **told), "answers 502 to 504 not judged without --fault")


def _note(finding: Finding, number: int, what: str) -> None:
    if number:
        finding.notes.append(f"{number} {what}")

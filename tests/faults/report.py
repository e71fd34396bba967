def tell(r):
    j=r.judgement
    print(("ok    " if r.passed else "FAILED"), r.title, f"{r.seconds}s drain {r.drain_seconds}s events {j.events} ack {j.acknowledged} unk {j.unknown} refused {j.refused} reposts {j.reposts} sight {j.sightings}/{j.deliveries} lost {j.lost} dup {j.duplicates} {r.notes}", flush=True)
    for w in r.wrong: print("   ", w[-3000:], flush=True)
    if not r.passed: print("    seed", r.seed)
    print("   ", r.invariants, flush=True)

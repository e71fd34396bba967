-- The tokens that may send events now. By the clock, not by the transaction's start: a token that ended while an
-- accept waited for its turn is refused. Looked up by key_id (unique).
CREATE VIEW pusher.intake_token AS
SELECT t.key_id, t.digest, t.account_id, a.rate_limit_per_second AS rate_limit
  FROM public.accounts_ingesttoken t
  JOIN public.accounts_account a ON a.id = t.account_id
 WHERE t.expires_at IS NULL OR t.expires_at > clock_timestamp();

-- All that sending to a destination needs; headers and signing secrets (the current one first, the previous one
-- while it still signs) as they are stored, encrypted. statement_timestamp(), because a volatile clock among the
-- columns would keep the planner from looking through the view. Looked up by destination_id (primary key).
CREATE VIEW pusher.route AS
SELECT d.id AS destination_id, d.account_id, d.url, d.http_method, d.encrypted_headers AS headers,
       CASE WHEN d.previous_signing_secret_ends_at > statement_timestamp()
            THEN ARRAY[d.encrypted_signing_secret, d.encrypted_previous_signing_secret]
            ELSE ARRAY[d.encrypted_signing_secret] END AS signing_secrets,
       d.timeout_seconds, d.retry_schedule_seconds, d.active, d.paused, d.revision
  FROM public.accounts_destination d;

-- Where an account's events go: its active destinations. Looked up by account_id (index destination_of_account).
CREATE VIEW pusher.intake_destination AS
SELECT d.account_id, d.id AS destination_id, d.paused
  FROM public.accounts_destination d
 WHERE d.active;

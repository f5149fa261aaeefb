mod cron;
pub mod plan;

//! Bitwise the same for any number of threads. In a file of its own: the number belongs to the whole process.

mod common;

use common::*;
use tch::Kind;
use tch_svgd::functional::{self, Hyperparameters};

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    // With several blocks of rows, odd sizes, more work than one task does, and (last) more than any cache holds.
    for (size, moment_size) in [
        (vec![128, 16, 32, 32], vec![16, 32, 32]),
        (vec![67, 5, 31, 29], vec![5]),
        (vec![50000, 3], vec![3]),
        (vec![100001, 1], vec![1]),
        (vec![300, 1031], vec![1031]),
        (vec![130, 3, 41, 41], vec![3]),
        (vec![70, 3, 205, 201], vec![3, 205, 201]),
        (vec![300, 29000], vec![29000]),
        (vec![2, 1000003], vec![1000003]),
    ] {
        for last in [false, true] {
            if last && size.len() != 4 {
                continue;
            }
            let gradient = noise(3, &size, Kind::Float);
            let gradient = if last { channels_last(&gradient) } else { gradient };
            let run = |threads: i32| {
                tch::set_num_threads(threads);
                let moment = zeros(&moment_size, Kind::Float);
                let t = functional::virtual_grad(&gradient, &moment, Hyperparameters::default()).unwrap();
                (t, moment)
            };
            let (t, moment) = run(1);
            for count in [2, 3, 64] {
                let (other_t, other_moment) = run(count);
                assert_same_bits(&moment, &other_moment, &format!("second moment of {size:?} with {count} threads"));
                assert_same_bits(&t, &other_t, &format!("virtual gradient of {size:?} with {count} threads"));
            }
        }
    }
}

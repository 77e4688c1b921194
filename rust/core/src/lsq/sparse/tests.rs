use nalgebra::{DMatrix, DVector};

use super::*;

/// A lattice of blocks of two and three parameters that touch their neighbours, and the same matrix in full.
fn lattice(side: usize) -> (BlockMatrix, DMatrix<f64>, Vec<usize>) {
    let n = side * side;
    let sizes: Vec<usize> = (0..n).map(|k| 2 + k % 2).collect();
    let points: Vec<[f64; 2]> = (0..n).map(|k| [(k % side) as f64, (k / side) as f64]).collect();
    let mut pairs: Vec<(usize, usize)> = (0..n).filter(|k| k % side > 0).map(|k| (k, k - 1)).collect();
    pairs.extend((side..n).map(|k| (k, k - side)));
    let pattern = Arc::new(Pattern::new(&sizes, &points, &pairs));
    let mut matrix = BlockMatrix::new(Arc::clone(&pattern));
    let mut full = DMatrix::zeros(pattern.parameters(), pattern.parameters());
    pairs.extend((0..n).map(|k| (k, k)));
    for &(a, b) in &pairs {
        for i in 0..sizes[a] {
            for j in 0..sizes[b] {
                let value = if a == b {
                    if i == j { 9.0 + (a % 5) as f64 } else { 0.5 }
                } else {
                    0.3 + 0.1 * ((3 * a + 5 * b + i + 2 * j) % 7) as f64
                };
                matrix.add((a, i), (b, j), value);
                let (r, c) = (pattern.start(a) + i, pattern.start(b) + j);
                (full[(r, c)], full[(c, r)]) = (value, value);
            }
        }
    }
    (matrix, full, sizes)
}

#[test]
fn it_solves_as_a_full_matrix_does() {
    let (matrix, full, _) = lattice(9);
    let n = full.nrows();
    let x = DVector::from_fn(n, |i, _| ((i * 37) % 11) as f64 - 5.0);
    let product = matrix.multiply(x.as_slice());
    assert!((&full * &x - DVector::from_vec(product.clone())).amax() < 1e-12);
    let mut solved: Vec<f64> = product.iter().flat_map(|&v| [v, 2.0 * v]).collect();
    matrix.factor(0.0, &[]).solve(&mut solved, 2);
    for i in 0..n {
        assert!((solved[2 * i] - x[i]).abs() < 1e-10 && (solved[2 * i + 1] - 2.0 * x[i]).abs() < 1e-10);
    }
    let mut damped = product.clone();
    matrix.factor(0.5, &[]).solve(&mut damped, 1);
    let with = &full + DMatrix::from_diagonal(&(0.5 * full.diagonal()));
    assert!((with * DVector::from_vec(damped) - DVector::from_vec(product)).amax() < 1e-9);
}

#[test]
fn diagonal_blocks_of_the_inverse() {
    let (matrix, full, sizes) = lattice(9);
    let inverse = full.try_inverse().unwrap();
    let blocks = matrix.factor(0.0, &[]).inverse_blocks();
    for (block, (found, &size)) in blocks.iter().zip(&sizes).enumerate() {
        let start = matrix.pattern().start(block);
        for k in 0..size * size {
            assert!((found[k] - inverse[(start + k / size, start + k % size)]).abs() < 1e-12);
        }
    }
}

#[test]
fn what_is_not_determined_is_frozen() {
    let pattern = Arc::new(Pattern::new(&[2, 1], &[[0.0; 2], [1.0, 0.0]], &[(0, 1)]));
    let mut matrix = BlockMatrix::new(Arc::clone(&pattern));
    // The first two parameters are identical, and the third has no information.
    for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        matrix.add((0, i), (0, j), 4.0);
    }
    let factor = matrix.factor(0.0, &[]);
    assert_eq!(factor.frozen().iter().filter(|f| **f).count(), 2);
    let mut right = vec![8.0; 3];
    factor.solve(&mut right, 1);
    assert!((right.iter().sum::<f64>() - 2.0).abs() < 1e-12, "{right:?}");
    let blocks = factor.inverse_blocks();
    assert!((blocks[0].iter().sum::<f64>() - 0.25).abs() < 1e-12 && blocks[1] == [0.0]);
}

#[test]
fn what_is_held_does_not_move() {
    let (matrix, full, _) = lattice(6);
    let n = full.nrows();
    let held: Vec<bool> = (0..n).map(|k| k % 4 == 1).collect();
    let free: Vec<usize> = (0..n).filter(|k| !held[*k]).collect();
    let right = DVector::from_fn(n, |i, _| ((i * 37) % 11) as f64 - 5.0);
    let mut solved = right.as_slice().to_vec();
    matrix.factor(0.0, &held).solve(&mut solved, 1);
    let rest = full.select_rows(&free).select_columns(&free);
    let expected = rest.cholesky().unwrap().solve(&right.select_rows(&free));
    for (k, value) in free.iter().zip(expected.iter()) {
        assert!((solved[*k] - value).abs() < 1e-10, "{k}");
    }
    assert!((0..n).filter(|k| held[*k]).all(|k| solved[k] == 0.0));
}

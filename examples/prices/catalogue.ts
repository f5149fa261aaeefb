/** What one piece costs, in cents. */
export const catalogue: Record<string, number> = { apple: 40, pear: 55, quince: 120 };

export enum Discount {
  None = 0,
  Dozen = 10,
}

/** In per cent of the whole. */
export function discount(count: number): Discount {
  return count >= 12 ? Discount.Dozen : Discount.None;
}
